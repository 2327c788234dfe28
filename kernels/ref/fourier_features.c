#include "kernels/ref/ref.h"

void ref_fourier_features(struct device *d, const struct fourier_features_args *a)
{
    int64_t m = a->weight->shape[0];
    for (int64_t i = 0; i < tensor_count(a->x); i++) {
        float *y = ref_f32(a->y) + i * 2 * m;
        for (int64_t j = 0; j < m; j++) {
            double angle = 2 * M_PI * ref_f32(a->x)[i] * ref_f32(a->weight)[j];
            y[j] = (float)cos(angle);
            y[m + j] = (float)sin(angle);
        }
    }
}
