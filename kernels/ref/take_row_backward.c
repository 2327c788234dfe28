#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_take_row_backward(struct device *d, const struct take_row_backward_args *a)
{
    int64_t n = a->dx->shape[0], s = a->dx->shape[1], c = a->dx->shape[2];
    memset(ref_f32(a->dx), 0, (size_t)(n * s * c) * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        memcpy(ref_f32(a->dx) + (i * s + a->index) * c, ref_f32(a->dy) + i * c,
               (size_t)c * sizeof(float));
}
