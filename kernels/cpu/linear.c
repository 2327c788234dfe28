#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/rows.h"

#define DOT_COLUMNS 16

struct dot_job {
    const struct linear_args *a;
    const float *x;
    float *y;       /* a's, or F32 copies */
    float *scratch; /* per worker, for weights of F16 */
};

static void dot_columns(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct dot_job *j = arg;
    const struct linear_args *a = j->a;
    int64_t k = tensor_last(a->x), rows = tensor_rows(a->x), columns = tensor_last(a->y);
    const float *bias = a->bias ? (const float *)a->bias->data : NULL;
    float *scratch = j->scratch ? j->scratch + worker * DOT_COLUMNS * k : NULL;
    int count = (int)(end - begin);
    enum dtype dtype = a->weight->dtype;
    const void *w = (const char *)a->weight->data + (size_t)(begin * k) * dtype_size(dtype);
    if (dtype == DTYPE_F16) {
        int64_t ld;
        w = weights_as_f32(dtype, a->weight->data, begin, count, k, 0, k, scratch, &ld);
        dtype = DTYPE_F32;
    }
    float *y = j->y + begin;
    cpu_isa()->dot(y, columns, j->x, k, (int)rows, dtype, w, k, count, k,
                   bias ? bias + begin : NULL);
    if (a->act != ACTIVATION_NONE)
        for (int64_t m = 0; m < rows; m++)
            cpu_isa()->activation(y + m * columns, y + m * columns, count, a->act);
}

/* Where it is not added before y is rounded. */
static void add_residual(struct device *d, const struct linear_args *a)
{
    if (a->residual)
        cpu_add(d, &(struct add_args){a->residual, a->y, a->y});
}

static void dot_rows(struct device *d, const struct linear_args *a)
{
    struct dot_job j = {.a = a};
    int64_t in = tensor_count(a->x), out = tensor_count(a->y);
    bool copies = a->x->dtype != DTYPE_F32;
    int64_t scratch =
        a->weight->dtype == DTYPE_F16 ? threads_count() * DOT_COLUMNS * tensor_last(a->x) : 0;
    size_t granted;
    float *memory =
        device_allocate(d, (size_t)(scratch + (copies ? in + out : 0)) * sizeof(float), &granted);
    float *x = memory + scratch;
    j.scratch = scratch ? memory : NULL;
    j.x = row_read(a->x, 0, in, x);
    j.y = row_begin(a->y, 0, x + in);
    parallel_for(tensor_last(a->y), DOT_COLUMNS, dot_columns, &j);
    row_written(a->y, 0, out, j.y);
    add_residual(d, a);
    device_release(d, memory, granted);
}

/* With one row per image (conditioning vectors), time goes into reading the weights, so they are
 * not packed. The choice must not depend on the number of images: results must not, either. */
void cpu_linear(struct device *d, const struct linear_args *a)
{
    if (a->x->ndim == 2) {
        dot_rows(d, a);
        return;
    }
    struct dense_rows rows = {a->x->data, tensor_last(a->x), a->x->dtype};
    struct matmul m = {
        .rows = tensor_rows(a->x),
        .columns = tensor_last(a->y),
        .channels = tensor_last(a->x),
        .taps = 1,
        .find_rows = find_dense_rows,
        .context = &rows,
        .dtype = a->x->dtype,
        .weight_dtype = a->weight->dtype,
        .weight = a->weight->data,
        .bias = a->bias ? a->bias->data : NULL,
        .act = a->act,
        .c = a->y->data,
        .ldc = tensor_last(a->y),
    };
    if (m.dtype == DTYPE_BF16 && a->residual)
        m.residual = a->residual->data;
    matmul(d, &m);
    if (!m.residual)
        add_residual(d, a);
}
