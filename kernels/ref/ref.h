#ifndef CCLD_KERNELS_REF_REF_H
#define CCLD_KERNELS_REF_REF_H

/* What the plain kernels share. They are the truth that other backends are checked against, so they
 * are written to be read: sums run in double, in the order of the formulas in kernels/ops.h, and
 * nothing is blocked, packed or vectorised by hand. */

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

/* All elements as F32, whatever the checkpoint stores; the caller frees them. */
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

#endif
