#include "kernels/ref/ref.h"

void ref_to_nhwc(struct device *d, const struct to_nhwc_args *a)
{
    int64_t c = a->x->shape[1], pixels = a->x->shape[2] * a->x->shape[3];
    for (int64_t n = 0; n < a->x->shape[0]; n++) {
        const float *x = ref_f32(a->x) + n * c * pixels;
        float *y = ref_f32(a->y) + n * c * pixels;
        for (int64_t p = 0; p < pixels; p++) {
            for (int64_t i = 0; i < c; i++) {
                double scale = a->scale ? a->scale[i] : 1, shift = a->shift ? a->shift[i] : 0;
                y[p * c + i] = (float)(x[i * pixels + p] * scale + shift);
            }
        }
    }
}
