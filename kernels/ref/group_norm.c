#include "kernels/ref/ref.h"

struct ref_moments ref_moments(const float *x, int64_t pixels, int64_t c, int64_t channels)
{
    double count = (double)pixels * (double)channels, sum = 0, squares = 0;
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t j = 0; j < channels; j++)
            sum += x[p * c + j];
    double mean = sum / count;
    for (int64_t p = 0; p < pixels; p++) {
        for (int64_t j = 0; j < channels; j++) {
            double deviation = x[p * c + j] - mean;
            squares += deviation * deviation;
        }
    }
    return (struct ref_moments){mean, squares / count};
}

static void groups(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct group_norm_args *a = arg;
    int64_t n = a->x->shape[0], c = tensor_last(a->x);
    int64_t pixels = tensor_count(a->x) / (n * c), channels = c / a->groups;
    const float *gamma = a->gamma ? ref_f32(a->gamma) : NULL;
    const float *beta = a->beta ? ref_f32(a->beta) : NULL;
    for (int64_t g = begin; g < end; g++) {
        int64_t image = g / a->groups, first = g % a->groups * channels;
        const float *x = ref_f32(a->x) + image * pixels * c;
        float *y = ref_f32(a->y) + image * pixels * c;
        const float *modulation = NULL;
        if (a->modulation)
            modulation =
                ref_f32(a->modulation) + image * tensor_last(a->modulation) + a->modulation_begin;
        struct ref_moments m = ref_moments(x + first, pixels, c, channels);
        double inverse = 1 / sqrt(m.variance + a->eps);
        for (int64_t p = 0; p < pixels; p++) {
            for (int64_t j = first; j < first + channels; j++) {
                double z = (x[p * c + j] - m.mean) * inverse;
                if (gamma)
                    z = z * gamma[j] + beta[j];
                if (modulation)
                    z = z * (1 + (double)modulation[j]) + modulation[c + j];
                z = ref_activate(a->act, z);
                if (a->residual)
                    z += ref_f32(a->residual)[image * pixels * c + p * c + j];
                y[p * c + j] = (float)z;
            }
        }
        if (a->statistics) {
            float *s = ref_f32(a->statistics) + 3 * g;
            s[0] = (float)m.mean;
            s[1] = (float)(m.mean - s[0]);
            s[2] = (float)inverse;
        }
    }
}

void ref_group_norm(struct device *d, const struct group_norm_args *a)
{
    parallel_for(a->x->shape[0] * a->groups, 1, groups, (void *)a);
}
