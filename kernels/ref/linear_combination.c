#include "kernels/ref/ref.h"

void ref_linear_combination(struct device *d, const struct linear_combination_args *a)
{
    for (int64_t i = 0; i < tensor_count(a->y); i++) {
        double sum = 0;
        for (int k = 0; k < a->count; k++)
            sum += (double)a->coefficients[k] * ref_f32(a->x[k])[i];
        ref_f32(a->y)[i] = (float)sum;
    }
}
