#include "kernels/ref/ref.h"

void ref_layer_norm(struct device *d, const struct layer_norm_args *a)
{
    int64_t c = tensor_last(a->x);
    const float *gamma = ref_f32(a->gamma), *beta = ref_f32(a->beta);
    for (int64_t row = 0; row < tensor_rows(a->x); row++) {
        const float *x = ref_f32(a->x) + row * c;
        float *y = ref_f32(a->y) + row * c;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < c; i++)
            mean += x[i] / (double)c;
        for (int64_t i = 0; i < c; i++)
            variance += (x[i] - mean) * (x[i] - mean) / (double)c;
        double inverse = 1 / sqrt(variance + a->eps);
        for (int64_t i = 0; i < c; i++)
            y[i] = (float)((x[i] - mean) * inverse * gamma[i] + beta[i]);
    }
}
