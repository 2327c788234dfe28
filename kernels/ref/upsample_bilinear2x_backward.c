#include "kernels/backward.h"
#include "kernels/ref/ref.h"

/* Distributes every output's gradient to the four inputs it was interpolated from. */
static void images(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct upsample_bilinear2x_backward_args *a = arg;
    int64_t h = a->dx->shape[1], w = a->dx->shape[2], c = a->dx->shape[3];
    int64_t both = a->dy->shape[3];
    double *sums = xmalloc((size_t)(h * w * c) * sizeof(double));
    for (int64_t n = begin; n < end; n++) {
        const float *dy = ref_f32(a->dy) + n * 4 * h * w * both;
        for (int64_t i = 0; i < h * w * c; i++)
            sums[i] = 0;
        for (int64_t oy = 0; oy < 2 * h; oy++) {
            int64_t ny, fy;
            ref_bilinear2x_neighbours(oy, h, &ny, &fy);
            for (int64_t ox = 0; ox < 2 * w; ox++, dy += both) {
                int64_t nx, fx;
                ref_bilinear2x_neighbours(ox, w, &nx, &fx);
                for (int64_t i = 0; i < c; i++) {
                    sums[(ny * w + nx) * c + i] += 0.75 * 0.75 * dy[i];
                    sums[(ny * w + fx) * c + i] += 0.75 * 0.25 * dy[i];
                    sums[(fy * w + nx) * c + i] += 0.25 * 0.75 * dy[i];
                    sums[(fy * w + fx) * c + i] += 0.25 * 0.25 * dy[i];
                }
            }
        }
        for (int64_t i = 0; i < h * w * c; i++)
            ref_f32(a->dx)[n * h * w * c + i] = (float)sums[i];
    }
    free(sums);
}

void ref_upsample_bilinear2x_backward(struct device *d,
                                      const struct upsample_bilinear2x_backward_args *a)
{
    if (a->dx)
        parallel_for(a->dx->shape[0], 1, images, (void *)a);
    if (a->dbeside)
        ref_concat_backward(d, &(struct concat_backward_args){a->dy, NULL, a->dbeside});
}
