#include "kernels/ref/ref.h"

int64_t ref_greatest_of_block(const float *p, int64_t row, int64_t c)
{
    const int64_t places[4] = {0, c, row, row + c};
    int64_t greatest = 0;
    for (int k = 1; k < 4; k++)
        if (p[places[k]] > p[greatest] || isnan(p[places[k]]))
            greatest = places[k];
    return greatest;
}

void ref_max_pool2x2(struct device *d, const struct max_pool2x2_args *a)
{
    int64_t h = a->x->shape[1], w = a->x->shape[2], c = a->x->shape[3];
    float *y = ref_f32(a->y);
    for (int64_t image = 0; image < a->x->shape[0]; image++)
        for (int64_t oy = 0; oy < h / 2; oy++)
            for (int64_t ox = 0; ox < w / 2; ox++)
                for (int64_t i = 0; i < c; i++) {
                    const float *block =
                        ref_f32(a->x) + ((image * h + 2 * oy) * w + 2 * ox) * c + i;
                    *y++ = block[ref_greatest_of_block(block, w * c, c)];
                }
}
