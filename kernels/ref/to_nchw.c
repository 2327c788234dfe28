#include "kernels/ref/ref.h"

void ref_to_nchw(struct device *d, const struct to_nchw_args *a)
{
    int64_t pixels = a->x->shape[1] * a->x->shape[2], c = a->x->shape[3];
    for (int64_t n = 0; n < a->x->shape[0]; n++) {
        const float *x = ref_f32(a->x) + n * c * pixels;
        float *y = ref_f32(a->y) + n * c * pixels;
        for (int64_t i = 0; i < c; i++)
            for (int64_t p = 0; p < pixels; p++)
                y[i * pixels + p] = x[p * c + i];
    }
}
