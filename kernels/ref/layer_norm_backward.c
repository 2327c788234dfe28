#include "kernels/backward.h"
#include "kernels/ref/ref.h"

/* With u the normalized x and du = dy * gamma: dx = (du - mean(du) - u * mean(du * u)) / deviation.
 */
static void row_gradient(float *dx, const float *x, const float *dy, const float *gamma, int64_t c,
                         struct ref_moments m, double inverse)
{
    double mean = 0, projection = 0;
    for (int64_t i = 0; i < c; i++) {
        mean += (double)dy[i] * gamma[i] / (double)c;
        projection += (double)dy[i] * gamma[i] * (x[i] - m.mean) * inverse / (double)c;
    }
    for (int64_t i = 0; i < c; i++) {
        double normal = (x[i] - m.mean) * inverse;
        dx[i] = (float)(((double)dy[i] * gamma[i] - mean - normal * projection) * inverse);
    }
}

void ref_layer_norm_backward(struct device *d, const struct layer_norm_backward_args *a)
{
    int64_t c = tensor_last(a->dy);
    double *dgamma = xcalloc((size_t)c, sizeof(double));
    for (int64_t row = 0; row < tensor_rows(a->dy); row++) {
        const float *x = ref_f32(a->forward.x) + row * c, *dy = ref_f32(a->dy) + row * c;
        struct ref_moments m = ref_moments(x, 1, c, c);
        double inverse = 1 / sqrt(m.variance + a->forward.eps);
        for (int64_t i = 0; i < c; i++)
            dgamma[i] += dy[i] * (x[i] - m.mean) * inverse;
        if (a->dx)
            row_gradient(ref_f32(a->dx) + row * c, x, dy, ref_f32(a->forward.gamma), c, m, inverse);
    }
    for (int64_t i = 0; i < c && a->dgamma; i++)
        ref_f32(a->dgamma)[i] = (float)(ref_f32(a->dgamma)[i] + dgamma[i]);
    if (a->dbeta)
        ref_add_column_sums(ref_f32(a->dbeta), ref_f32(a->dy), tensor_rows(a->dy), c);
    free(dgamma);
}
