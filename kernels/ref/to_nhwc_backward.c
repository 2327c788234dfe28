#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_to_nhwc_backward(struct device *d, const struct to_nhwc_backward_args *a)
{
    int64_t c = a->dx->shape[1], pixels = a->dx->shape[2] * a->dx->shape[3];
    for (int64_t n = 0; n < a->dx->shape[0]; n++) {
        const float *dy = ref_f32(a->dy) + n * c * pixels;
        float *dx = ref_f32(a->dx) + n * c * pixels;
        for (int64_t i = 0; i < c; i++)
            for (int64_t p = 0; p < pixels; p++)
                dx[i * pixels + p] = dy[p * c + i] * (a->scale ? a->scale[i] : 1);
    }
}
