#ifndef CCLD_KERNELS_REF_REF_H
#define CCLD_KERNELS_REF_REF_H

/* Helpers of the reference kernels, against which all backends are checked. They are written to be
 * read: sums run in double, in the order of the formulas in kernels/ops.h, and nothing is blocked,
 * packed or vectorized by hand. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/ops.h"

static inline float *ref_f32(const struct tensor *t)
{
    CHECK(t->dtype == DTYPE_F32);
    return t->data;
}

static inline double *ref_f64(const struct tensor *t)
{
    CHECK(t->dtype == DTYPE_F64);
    return t->data;
}

/* Of a posterior; NaN stays NaN. */
static inline double ref_clamp_logvar(double logvar)
{
    return logvar < -30 ? -30 : logvar > 20 ? 20 : logvar;
}

/* Converts all elements to F32; the caller frees the result. */
static inline float *ref_weights(const struct tensor *t)
{
    size_t count = (size_t)tensor_count(t);
    float *w = xmalloc(count * sizeof(float));
    dtype_to_f32(w, t->dtype, t->data, count);
    return w;
}

static inline double ref_dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

double ref_activate(enum activation_kind kind, double x);
double ref_activate_derivative(enum activation_kind kind, double x);

/* Computed in two passes, which preserves the variance of a near-constant group. x points to the
 * group's first channel of the first pixel; pixels are c floats apart. */
struct ref_moments {
    double mean, variance;
};
struct ref_moments ref_moments(const float *x, int64_t pixels, int64_t c, int64_t channels);

/* p[m] = softmax over m of (q . k_m) / sqrt(d); k is key row 0 of the image and head. */
void ref_attention_probabilities(double *p, const float *q, const float *k,
                                 const struct attention_args *a);

/* Output i of 2 * size lies at (i + 0.5) / 2 - 0.5 in the input, between two neighbors: 3/4 of the
 * nearer, 1/4 of the farther. */
void ref_bilinear2x_neighbours(int64_t i, int64_t size, int64_t *near, int64_t *far);

/* Offset from p of the maximum of p's channel in the 2x2 block that begins at p. row: floats
 * between rows, c: between pixels. */
int64_t ref_greatest_of_block(const float *p, int64_t row, int64_t c);

/* Element i = value, or += value if adds. */
static inline void ref_set(const struct tensor *t, int64_t i, bool adds, double value)
{
    ref_f32(t)[i] = (float)((adds ? ref_f32(t)[i] : 0) + value);
}
/* Zero; v may be NULL. */
static inline void ref_clear(const struct tensor *v)
{
    if (v)
        memset(ref_f32(v), 0, (size_t)tensor_count(v) * sizeof(float));
}
/* sums[j] += sum over rows of x[row, j]: the gradient of a bias. */
void ref_add_column_sums(float *sums, const float *x, int64_t rows, int64_t columns);

#endif
