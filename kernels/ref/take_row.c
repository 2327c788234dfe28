#include "kernels/ref/ref.h"

void ref_take_row(struct device *d, const struct take_row_args *a)
{
    int64_t n = a->x->shape[0], s = a->x->shape[1], c = a->x->shape[2];
    for (int64_t i = 0; i < n; i++)
        memcpy(ref_f32(a->y) + i * c, ref_f32(a->x) + (i * s + a->index) * c,
               (size_t)c * sizeof(float));
}
