#include "kernels/ref/ref.h"
#include "kernels/training.h"

static void draw_back_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct posterior_backward_args *a = arg;
    int64_t count = tensor_count(a->dz) / a->dz->shape[0];
    double kl_weight = a->kl_weight * ref_f64(a->weight)[0];
    for (int64_t image = begin; image < end; image++) {
        const float *mean = ref_f32(a->moments) + 2 * image * count, *logvar = mean + count;
        float *dmean = ref_f32(a->dmoments) + 2 * image * count, *dlogvar = dmean + count;
        for (int64_t i = 0; i < count; i++) {
            double log_variance = ref_clamp_logvar(logvar[i]), deviation = exp(log_variance / 2);
            double d = ref_f32(a->dz)[image * count + i];
            double by_logvar = kl_weight * (deviation * deviation - 1) / 2;
            if (a->noise)
                by_logvar += d * ref_f32(a->noise)[image * count + i] * deviation / 2;
            dmean[i] = (float)(d + kl_weight * mean[i]);
            dlogvar[i] = log_variance == logvar[i] ? (float)by_logvar : 0;
        }
    }
}

void ref_posterior_backward(struct device *d, const struct posterior_backward_args *a)
{
    parallel_for(a->dz->shape[0], 1, draw_back_some, (void *)a);
}
