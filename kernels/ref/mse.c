#include "kernels/ref/ref.h"
#include "kernels/training.h"

void ref_mse(struct device *d, const struct mse_args *a)
{
    int64_t n = a->x->shape[0], count = n ? tensor_count(a->x) / n : 0;
    for (int64_t image = 0; image < n; image++) {
        double sum = 0;
        for (int64_t i = image * count; i < (image + 1) * count; i++) {
            double difference = (double)ref_f32(a->x)[i] - ref_f32(a->target)[i];
            sum += difference * difference;
            if (a->dx)
                ref_f32(a->dx)[i] = (float)(2 * difference * ref_f32(a->weight)[0]);
        }
        float loss = (float)(sum / (double)count);
        ref_f32(a->loss)[image] = loss;
        if (a->dx && count > 0 && !isfinite(loss))
            ref_f32(a->dx)[image * count] = NAN;
    }
}
