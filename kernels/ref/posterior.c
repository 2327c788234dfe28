#include "kernels/ref/ref.h"
#include "kernels/training.h"

static void draw_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct posterior_args *a = arg;
    int64_t count = tensor_count(a->z) / a->z->shape[0];
    for (int64_t image = begin; image < end; image++) {
        const float *mean = ref_f32(a->moments) + 2 * image * count, *logvar = mean + count;
        double kl = 0;
        for (int64_t i = 0; i < count; i++) {
            double mu = mean[i], log_variance = ref_clamp_logvar(logvar[i]);
            double deviation = exp(log_variance / 2);
            double noise = a->noise ? deviation * ref_f32(a->noise)[image * count + i] : 0;
            ref_f32(a->z)[image * count + i] = (float)(mu + noise);
            kl += (mu * mu + deviation * deviation - 1 - log_variance) / 2;
        }
        ref_f64(a->kl)[image] = kl;
    }
}

void ref_posterior(struct device *d, const struct posterior_args *a)
{
    parallel_for(a->z->shape[0], 1, draw_some, (void *)a);
}
