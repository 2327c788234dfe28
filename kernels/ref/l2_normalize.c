#include "kernels/ref/ref.h"

void ref_l2_normalize(struct device *d, const struct l2_normalize_args *a)
{
    int64_t c = tensor_last(a->x);
    for (int64_t row = 0; row < tensor_rows(a->x); row++) {
        const float *x = ref_f32(a->x) + row * c;
        double length = fmax(sqrt(ref_dot(x, x, c)), a->eps);
        for (int64_t i = 0; i < c; i++)
            ref_f32(a->y)[row * c + i] = (float)(x[i] * a->scale / length);
    }
}
