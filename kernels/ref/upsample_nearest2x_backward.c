#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_upsample_nearest2x_backward(struct device *d,
                                     const struct upsample_nearest2x_backward_args *a)
{
    int64_t h = a->dx->shape[1], w = a->dx->shape[2], c = a->dx->shape[3];
    float *dx = ref_f32(a->dx);
    for (int64_t row = 0; row < a->dx->shape[0] * h; row++) {
        const float *above = ref_f32(a->dy) + 4 * row * w * c, *below = above + 2 * w * c;
        for (int64_t x = 0; x < w; x++) {
            for (int64_t i = 0; i < c; i++) {
                int64_t left = 2 * x * c + i, right = left + c;
                *dx++ = (float)((double)above[left] + above[right] + below[left] + below[right]);
            }
        }
    }
}
