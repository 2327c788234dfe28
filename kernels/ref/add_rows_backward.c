#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_add_rows_backward(struct device *d, const struct add_rows_backward_args *a)
{
    int64_t period = tensor_count(a->drows); /* one image's s * d */
    for (int64_t i = 0; i < period; i++) {
        double sum = ref_f32(a->drows)[i];
        for (int64_t n = 0; n < a->dy->shape[0]; n++)
            sum += ref_f32(a->dy)[n * period + i];
        ref_f32(a->drows)[i] = (float)sum;
    }
}
