#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"

#define DOT_COLUMNS 16

struct dot_job {
    const struct linear_args *a;
    float *scratch; /* per worker, for weights that are not F32 */
};

static void dot_columns(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct dot_job *j = arg;
    const struct linear_args *a = j->a;
    int64_t k = tensor_last(a->x), rows = tensor_rows(a->x), columns = tensor_last(a->y);
    const float *bias = a->bias ? (const float *)a->bias->data : NULL;
    float *scratch = j->scratch ? j->scratch + worker * DOT_COLUMNS * k : NULL;
    int count = (int)(end - begin);
    int64_t ld;
    const float *w =
        weights_as_f32(a->weight->dtype, a->weight->data, begin, count, k, 0, k, scratch, &ld);
    float *y = (float *)a->y->data + begin;
    cpu_isa()->dot(y, columns, a->x->data, k, (int)rows, w, ld, count, k,
                   bias ? bias + begin : NULL);
    if (a->act != ACTIVATION_NONE)
        for (int64_t m = 0; m < rows; m++)
            cpu_isa()->activation(y + m * columns, y + m * columns, count, a->act);
}

/* With one row per image (conditioning vectors), time goes into reading the weights, so they are
 * not packed. The choice must not depend on the number of images: results must not, either. */
void cpu_linear(struct device *d, const struct linear_args *a)
{
    if (a->x->ndim == 2) {
        struct dot_job j = {a, NULL};
        size_t granted = 0;
        if (a->weight->dtype != DTYPE_F32)
            j.scratch = device_allocate(
                d, (size_t)(threads_count() * DOT_COLUMNS * tensor_last(a->x)) * sizeof(float),
                &granted);
        parallel_for(tensor_last(a->y), DOT_COLUMNS, dot_columns, &j);
        if (j.scratch)
            device_release(d, j.scratch, granted);
        return;
    }
    struct dense_rows rows = {a->x->data, tensor_last(a->x)};
    struct matmul m = {
        .rows = tensor_rows(a->x),
        .columns = tensor_last(a->y),
        .channels = tensor_last(a->x),
        .taps = 1,
        .find_rows = find_dense_rows,
        .context = &rows,
        .weight_dtype = a->weight->dtype,
        .weight = a->weight->data,
        .bias = a->bias ? a->bias->data : NULL,
        .act = a->act,
        .c = a->y->data,
        .ldc = tensor_last(a->y),
    };
    matmul(d, &m);
}
