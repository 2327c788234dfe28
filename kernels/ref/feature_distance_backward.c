#include "kernels/backward.h"
#include "kernels/ref/ref.h"

/* With s = 1 / (|b| + eps) and e the gradient of s * b:
 * db = s * e - s^2 * (e . b) * b / |b|. */
void ref_feature_distance_backward(struct device *d,
                                   const struct feature_distance_backward_args *args)
{
    const struct feature_distance_args *f = &args->forward;
    int64_t n = f->a->shape[0], c = f->a->shape[3], pixels = f->a->shape[1] * f->a->shape[2];
    const float *weight = ref_f32(f->weight);
    double *e = xmalloc((size_t)c * sizeof *e);
    for (int64_t p = 0; p < n * pixels; p++) {
        const float *a = ref_f32(f->a) + p * c, *b = ref_f32(f->b) + p * c;
        float *db = ref_f32(args->db) + p * c;
        double length = sqrt(ref_dot(b, b, c)), along = 0;
        double of_a = 1 / (sqrt(ref_dot(a, a, c)) + f->eps), of_b = 1 / (length + f->eps);
        double factor = 2.0 * ref_f32(args->dy)[p / pixels] / (double)pixels;
        for (int64_t i = 0; i < c; i++) {
            e[i] = factor * weight[i] * (b[i] * of_b - a[i] * of_a);
            along += e[i] * b[i];
        }
        for (int64_t i = 0; i < c; i++)
            db[i] = length > 0 ? (float)(of_b * (e[i] - of_b * along * b[i] / length)) : 0;
    }
    free(e);
}
