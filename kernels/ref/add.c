#include "kernels/ref/ref.h"

void ref_add(struct device *d, const struct add_args *a)
{
    for (int64_t i = 0; i < tensor_count(a->y); i++)
        ref_f32(a->y)[i] = ref_f32(a->a)[i] + ref_f32(a->b)[i];
}
