#include "kernels/ref/ref.h"

void ref_avg_pool2x2(struct device *d, const struct avg_pool2x2_args *a)
{
    int64_t h = a->x->shape[1], w = a->x->shape[2], c = a->x->shape[3];
    float *y = ref_f32(a->y);
    for (int64_t row = 0; row < a->x->shape[0] * h / 2; row++) {
        const float *above = ref_f32(a->x) + 2 * row * w * c, *below = above + w * c;
        for (int64_t ox = 0; ox < w / 2; ox++) {
            for (int64_t i = 0; i < c; i++) {
                int64_t left = 2 * ox * c + i, right = left + c;
                double sum = (double)above[left] + above[right] + below[left] + below[right];
                *y++ = (float)(sum / 4);
            }
        }
    }
}
