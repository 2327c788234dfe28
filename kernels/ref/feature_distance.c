#include "kernels/ref/ref.h"

void ref_feature_distance(struct device *d, const struct feature_distance_args *args)
{
    int64_t n = args->a->shape[0], c = args->a->shape[3];
    int64_t pixels = args->a->shape[1] * args->a->shape[2];
    const float *weight = ref_f32(args->weight);
    for (int64_t image = 0; image < n; image++) {
        double sum = 0;
        for (int64_t p = image * pixels; p < (image + 1) * pixels; p++) {
            const float *a = ref_f32(args->a) + p * c, *b = ref_f32(args->b) + p * c;
            double of_a = sqrt(ref_dot(a, a, c)) + args->eps;
            double of_b = sqrt(ref_dot(b, b, c)) + args->eps;
            for (int64_t i = 0; i < c; i++) {
                double apart = a[i] / of_a - b[i] / of_b;
                sum += weight[i] * apart * apart;
            }
        }
        ref_f32(args->y)[image] = (float)(sum / (double)pixels);
    }
}
