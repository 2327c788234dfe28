#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_prepend_row_backward(struct device *d, const struct prepend_row_backward_args *a)
{
    int64_t n = a->dy->shape[0], s = a->dy->shape[1] - 1, c = a->dy->shape[2];
    for (int64_t i = 0; i < n && a->dx; i++)
        memcpy(ref_f32(a->dx) + i * s * c, ref_f32(a->dy) + (i * (s + 1) + 1) * c,
               (size_t)(s * c) * sizeof(float));
    for (int64_t e = 0; e < c && a->drow; e++) {
        double sum = ref_f32(a->drow)[e];
        for (int64_t i = 0; i < n; i++)
            sum += ref_f32(a->dy)[i * (s + 1) * c + e];
        ref_f32(a->drow)[e] = (float)sum;
    }
}
