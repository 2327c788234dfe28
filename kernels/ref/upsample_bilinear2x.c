#include "kernels/ref/ref.h"

void ref_bilinear2x_neighbours(int64_t i, int64_t size, int64_t *near, int64_t *far)
{
    *near = i / 2;
    *far = i % 2 ? *near + 1 : *near - 1;
    if (*far < 0 || *far >= size)
        *far = *near;
}

void ref_upsample_bilinear2x(struct device *d, const struct upsample_bilinear2x_args *a)
{
    int64_t h = a->x->shape[1], w = a->x->shape[2], c = a->x->shape[3];
    int64_t cb = a->y->shape[3] - c;
    const float *beside = a->beside ? ref_f32(a->beside) : NULL;
    float *y = ref_f32(a->y);
    for (int64_t n = 0; n < a->x->shape[0]; n++) {
        const float *x = ref_f32(a->x) + n * h * w * c;
        for (int64_t oy = 0; oy < 2 * h; oy++) {
            int64_t ny, fy;
            ref_bilinear2x_neighbours(oy, h, &ny, &fy);
            for (int64_t ox = 0; ox < 2 * w; ox++) {
                int64_t nx, fx;
                ref_bilinear2x_neighbours(ox, w, &nx, &fx);
                for (int64_t i = 0; i < c; i++) {
                    double near = 0.75 * x[(ny * w + nx) * c + i] + 0.25 * x[(ny * w + fx) * c + i];
                    double far = 0.75 * x[(fy * w + nx) * c + i] + 0.25 * x[(fy * w + fx) * c + i];
                    *y++ = (float)(0.75 * near + 0.25 * far);
                }
                for (int64_t i = 0; i < cb; i++)
                    *y++ = *beside++;
            }
        }
    }
}
