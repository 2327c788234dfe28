#include <math.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

static void normalize_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct layer_norm_args *a = arg;
    const struct cpu_isa *isa = cpu_isa();
    int64_t n = tensor_last(a->x);
    for (int64_t row = begin; row < end; row++) {
        const float *x = (const float *)a->x->data + row * n;
        double sum, squares;
        isa->moments(x, n, x[0], &sum, &squares);
        double mean = x[0] + sum / (double)n;
        float center = (float)mean;
        /* Again, relative to the mean: exact even if the first element is far from the others. */
        isa->moments(x, n, center, &sum, &squares);
        double offset = sum / (double)n, variance = squares / (double)n - offset * offset;
        double inverse = 1.0 / sqrt(variance + a->eps);
        isa->normalize_row((float *)a->y->data + row * n, x, center, (float)inverse,
                           (float)(-offset * inverse), a->gamma->data, a->beta->data, n);
    }
}

void cpu_layer_norm(struct device *d, const struct layer_norm_args *a)
{
    parallel_for(tensor_rows(a->x), 32, normalize_rows, (void *)a);
}
