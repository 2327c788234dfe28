#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_max_pool2x2_backward(struct device *d, const struct max_pool2x2_backward_args *a)
{
    int64_t h = a->dx->shape[1], w = a->dx->shape[2], c = a->dx->shape[3];
    const float *dy = ref_f32(a->dy);
    memset(ref_f32(a->dx), 0, (size_t)tensor_count(a->dx) * sizeof(float));
    for (int64_t image = 0; image < a->dx->shape[0]; image++)
        for (int64_t oy = 0; oy < h / 2; oy++)
            for (int64_t ox = 0; ox < w / 2; ox++)
                for (int64_t i = 0; i < c; i++) {
                    int64_t block = ((image * h + 2 * oy) * w + 2 * ox) * c + i;
                    int64_t greatest =
                        ref_greatest_of_block(ref_f32(a->forward.x) + block, w * c, c);
                    ref_f32(a->dx)[block + greatest] = *dy++;
                }
}
