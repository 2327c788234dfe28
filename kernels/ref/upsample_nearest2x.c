#include "kernels/ref/ref.h"

void ref_upsample_nearest2x(struct device *d, const struct upsample_nearest2x_args *a)
{
    int64_t h = a->y->shape[1], w = a->y->shape[2], c = a->y->shape[3];
    float *y = ref_f32(a->y);
    for (int64_t row = 0; row < a->y->shape[0] * h; row++) {
        const float *x = ref_f32(a->x) + row / 2 * (w / 2) * c; /* h is even, so images fit */
        for (int64_t ox = 0; ox < w; ox++, y += c)
            memcpy(y, x + ox / 2 * c, (size_t)c * sizeof(float));
    }
}
