#include <math.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

struct job {
    const struct layer_norm_args *a;
    float *scratch; /* two rows per worker, of BF16 */
};

static void normalize_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct layer_norm_args *a = j->a;
    const struct cpu_isa *isa = cpu_isa();
    int64_t n = tensor_last(a->x);
    float *scratch = j->scratch + worker * 2 * n;
    for (int64_t row = begin; row < end; row++) {
        const float *x = row_read(a->x, row * n, n, scratch);
        float *y = row_begin(a->y, row * n, scratch + n);
        double sum, squares;
        isa->moments(x, n, x[0], &sum, &squares);
        double mean = x[0] + sum / (double)n;
        float center = (float)mean;
        /* Again, relative to the mean: exact even if the first element is far from the others. */
        isa->moments(x, n, center, &sum, &squares);
        double offset = sum / (double)n, variance = squares / (double)n - offset * offset;
        double inverse = 1.0 / sqrt(variance + a->eps);
        isa->normalize_row(y, x, center, (float)inverse, (float)(-offset * inverse), a->gamma->data,
                           a->beta->data, n);
        row_written(a->y, row * n, n, y);
    }
}

void cpu_layer_norm(struct device *d, const struct layer_norm_args *a)
{
    size_t rows = a->x->dtype == DTYPE_F32 ? 0 : 2 * (size_t)threads_count(), granted;
    struct job j = {.a = a};
    j.scratch = device_allocate(d, rows * (size_t)tensor_last(a->x) * sizeof(float), &granted);
    parallel_for(tensor_rows(a->x), 32, normalize_rows, &j);
    device_release(d, j.scratch, granted);
}
