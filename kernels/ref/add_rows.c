#include "kernels/ref/ref.h"

void ref_add_rows(struct device *d, const struct add_rows_args *a)
{
    int64_t period = tensor_count(a->rows); /* one image's s * d */
    for (int64_t i = 0; i < tensor_count(a->y); i++)
        ref_f32(a->y)[i] = ref_f32(a->x)[i] + ref_f32(a->rows)[i % period];
}
