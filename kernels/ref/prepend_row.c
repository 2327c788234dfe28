#include "kernels/ref/ref.h"

void ref_prepend_row(struct device *d, const struct prepend_row_args *a)
{
    int64_t n = a->x->shape[0], s = a->x->shape[1], c = a->x->shape[2];
    for (int64_t i = 0; i < n; i++) {
        float *y = ref_f32(a->y) + i * (s + 1) * c;
        memcpy(y, ref_f32(a->row), (size_t)c * sizeof(float));
        memcpy(y + c, ref_f32(a->x) + i * s * c, (size_t)(s * c) * sizeof(float));
    }
}
