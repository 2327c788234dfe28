#include "kernels/ref/ref.h"
#include "kernels/training.h"

void ref_noised_latents(struct device *d, const struct noised_latents_args *a)
{
    int64_t n = a->noise->shape[0], count = n ? tensor_count(a->noise) / n : 0;
    for (int64_t image = 0; image < n; image++) {
        double alpha = ref_f32(a->alpha)[image], sigma = ref_f32(a->sigma)[image];
        const float *mean = ref_f32(a->moments) + 2 * image * count, *logvar = mean + count;
        for (int64_t j = 0; j < count; j++) {
            int64_t i = image * count + j;
            double latent =
                (mean[j] + exp(ref_clamp_logvar(logvar[j]) / 2) * ref_f32(a->posterior_noise)[i]) /
                a->scale;
            double noise = ref_f32(a->noise)[i];
            ref_f32(a->noisy)[i] = (float)(alpha * latent + sigma * noise);
            ref_f32(a->target)[i] = (float)(alpha * noise - sigma * latent);
        }
    }
}
