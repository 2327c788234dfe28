#include "common/score/frechet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/score/symmetric.h"
#include "kernels/host_product.h"

#define BLOCK 1024 /* rows that are converted to double at once */

/* Sums over rows x of x - center and of (x - center) (x - center)^T: near the center they lose no
 * digits. */
struct sums {
    int64_t width, count;
    double *center, *first, *second;
};

static void sums_init(struct sums *s, int64_t width, const double *center)
{
    size_t n = (size_t)width;
    *s = (struct sums){.width = width, .center = xmalloc(n * sizeof *s->center)};
    memcpy(s->center, center, n * sizeof *center);
    s->first = xcalloc(n, sizeof *s->first);
    s->second = xcalloc(n * n, sizeof *s->second);
}

static void sums_release(struct sums *s)
{
    free(s->center);
    free(s->first);
    free(s->second);
}

/* Adds rows begin .. end in this order, or as stored if order is NULL. */
static void sums_add(struct sums *s, const struct embeddings *x, const int64_t *order,
                     int64_t begin, int64_t end)
{
    int64_t w = s->width;
    double *rows = xmalloc((size_t)(BLOCK * w) * sizeof *rows);
    for (; begin < end; begin += BLOCK) {
        int64_t n = end - begin < BLOCK ? end - begin : BLOCK;
        for (int64_t i = 0; i < n; i++) {
            const float *row = x->values + (order ? order[begin + i] : begin + i) * w;
            for (int64_t j = 0; j < w; j++) {
                rows[i * w + j] = row[j] - s->center[j];
                s->first[j] += rows[i * w + j];
            }
        }
        struct host_product p = {.m = w,
                                 .n = w,
                                 .k = n,
                                 .a = rows,
                                 .a_transposed = true,
                                 .b = rows,
                                 .add = true,
                                 .scale = 1,
                                 .c = s->second};
        host_product(&p);
        s->count += n;
    }
    free(rows);
}

static double *mean_of(const struct embeddings *x)
{
    double *mean = xcalloc((size_t)x->width, sizeof *mean);
    for (int64_t i = 0; i < x->count; i++)
        for (int64_t j = 0; j < x->width; j++)
            mean[j] += x->values[i * x->width + j];
    for (int64_t j = 0; j < x->width; j++)
        mean[j] /= (double)x->count;
    return mean;
}

/* covariance: [width, width]. Returns its trace. */
static double covariance_of(double *covariance, const struct sums *s)
{
    double n = (double)s->count, trace = 0;
    for (int64_t i = 0; i < s->width; i++) {
        for (int64_t j = 0; j < s->width; j++)
            covariance[i * s->width + j] =
                (s->second[i * s->width + j] - s->first[i] * s->first[j] / n) / (n - 1);
        trace += covariance[i * s->width + i];
    }
    return trace;
}

/* What the distance to the reference needs of it. */
struct target {
    int64_t width;
    double *mean, trace;
    double *factor; /* [width, width], C = factor factor^T */
};

static void target_init(struct target *t, const struct embeddings *reference)
{
    size_t n = (size_t)reference->width;
    struct sums s;
    t->width = reference->width;
    t->mean = mean_of(reference);
    t->factor = xmalloc(n * n * sizeof *t->factor);
    sums_init(&s, t->width, t->mean);
    sums_add(&s, reference, NULL, 0, reference->count);
    double *covariance = xmalloc(n * n * sizeof *covariance);
    t->trace = covariance_of(covariance, &s);
    symmetric_factor(t->factor, covariance, t->width);
    free(covariance);
    sums_release(&s);
}

static void target_release(struct target *t)
{
    free(t->mean);
    free(t->factor);
}

/* The trace of the root of target's covariance times this one. */
static double root_trace(const struct target *t, const double *covariance)
{
    int64_t w = t->width;
    double *half = xmalloc((size_t)(w * w) * sizeof *half), *whole = xmalloc((size_t)(w * w) * 8);
    double *values = xmalloc((size_t)w * sizeof *values), sum = 0;
    struct host_product p = {
        .m = w, .n = w, .k = w, .a = covariance, .b = t->factor, .scale = 1, .c = half};
    host_product(&p);
    struct host_product q = {.m = w,
                             .n = w,
                             .k = w,
                             .a = t->factor,
                             .a_transposed = true,
                             .b = half,
                             .scale = 1,
                             .c = whole};
    host_product(&q);
    symmetric_eigenvalues(values, whole, w);
    for (int64_t i = 0; i < w; i++)
        sum += sqrt(fmax(values[i], 0));
    free(values);
    free(half);
    free(whole);
    return sum;
}

static double distance_to(const struct target *t, const struct sums *s)
{
    double *covariance = xmalloc((size_t)(t->width * t->width) * sizeof *covariance);
    double trace = covariance_of(covariance, s), square = 0;
    for (int64_t j = 0; j < t->width; j++) {
        double difference = s->center[j] + s->first[j] / (double)s->count - t->mean[j];
        square += difference * difference;
    }
    double root = root_trace(t, covariance);
    free(covariance);
    return fmax(square + trace + t->trace - 2 * root, 0);
}

static int64_t first_point(int64_t count, int64_t width)
{
    int64_t least = 2 * width < count / 2 ? 2 * width : count / 2;
    int64_t n = count / 10 > least ? count / 10 : least;
    return n < 2 ? 2 : n;
}

/* The line through the points (x, y) with the least squares, at x = 0. */
static double intercept(const double *x, const double *y, int n)
{
    double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
    for (int i = 0; i < n; i++) {
        mean_x += x[i] / n;
        mean_y += y[i] / n;
    }
    for (int i = 0; i < n; i++) {
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        xy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    return xx > 0 ? mean_y - xy / xx * mean_x : mean_y;
}

void frechet_measure(struct frechet *out, const struct embeddings *samples, const int64_t *order,
                     const struct embeddings *reference)
{
    struct target target;
    struct sums s;
    double x[FRECHET_POINTS], y[FRECHET_POINTS];
    CHECK(samples->count >= 2 && reference->count >= 2 && samples->width == reference->width);
    target_init(&target, reference);
    sums_init(&s, samples->width, target.mean);
    int64_t first = first_point(samples->count, samples->width), more = samples->count - first;
    for (int i = 0; i < FRECHET_POINTS; i++) {
        int64_t n = first + more * i / (FRECHET_POINTS - 1);
        sums_add(&s, samples, order, s.count, n);
        x[i] = 1 / (double)n;
        y[i] = distance_to(&target, &s);
    }
    out->distance = y[FRECHET_POINTS - 1];
    out->infinite = intercept(x, y, FRECHET_POINTS);
    sums_release(&s);
    target_release(&target);
}
