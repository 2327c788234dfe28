#include "common/score/symmetric.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

/* x[0 .. m) becomes v with (1 - beta v v^T) x = (alpha, 0, ...). Returns beta. */
static double reflector(double *x, int64_t m, double *alpha)
{
    double largest = 0, square = 0;
    for (int64_t i = 0; i < m; i++)
        largest = fmax(largest, fabs(x[i]));
    *alpha = 0;
    if (largest == 0)
        return 0;
    for (int64_t i = 0; i < m; i++) {
        x[i] /= largest;
        square += x[i] * x[i];
    }
    double length = copysign(sqrt(square), x[0]);
    *alpha = -length * largest;
    double tail = square - x[0] * x[0];
    x[0] += length;
    return 2 / (x[0] * x[0] + tail);
}

/* a [m, m], rows `stride` apart: a -= v w^T + w v^T. */
static void update_rank2(double *a, int64_t stride, int64_t m, const double *v, const double *w)
{
    for (int64_t i = 0; i < m; i++) {
        double *row = a + i * stride, vi = v[i], wi = w[i];
        for (int64_t j = 0; j < m; j++)
            row[j] -= vi * w[j] + wi * v[j];
    }
}

/* w = beta a v - (beta / 2) (v . beta a v) v. */
static void reflect_vector(double *w, const double *a, int64_t stride, int64_t m, const double *v,
                           double beta)
{
    double along = 0;
    memset(w, 0, (size_t)m * sizeof *w);
    for (int64_t i = 0; i < m; i++) /* by rows, which are columns, too */
        for (int64_t j = 0; j < m; j++)
            w[j] += beta * v[i] * a[i * stride + j];
    for (int64_t i = 0; i < m; i++)
        along += w[i] * v[i];
    for (int64_t i = 0; i < m; i++)
        w[i] -= beta / 2 * along * v[i];
}

/* diagonal [n], beside [n]: the elements below the diagonal, beside[n - 1] = 0. */
static void tridiagonalize(double *diagonal, double *beside, double *a, int64_t n)
{
    double *v = xmalloc(2 * (size_t)n * sizeof *v), *w = v + n;
    for (int64_t k = 0; k < n; k++) {
        int64_t m = n - k - 1;
        diagonal[k] = a[k * n + k];
        beside[k] = 0;
        if (m == 0)
            break;
        double *rest = a + (k + 1) * n + k + 1;
        memcpy(v, a + k * n + k + 1, (size_t)m * sizeof *v);
        double beta = reflector(v, m, &beside[k]);
        if (beta == 0)
            continue;
        reflect_vector(w, rest, n, m, v, beta);
        update_rank2(rest, n, m, v, w);
    }
    free(v);
}

/* One implicit QL step on elements l .. m, with Wilkinson's shift. */
static void ql_step(double *d, double *e, int64_t l, int64_t m)
{
    double g = (d[l + 1] - d[l]) / (2 * e[l]), r = hypot(g, 1);
    g = d[m] - d[l] + e[l] / (g + copysign(r, g));
    double sine = 1, cosine = 1, p = 0;
    for (int64_t i = m - 1; i >= l; i--) {
        double f = sine * e[i], b = cosine * e[i];
        r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) {
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        sine = f / r;
        cosine = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * sine + 2 * cosine * b;
        p = sine * r;
        d[i + 1] = g + p;
        g = cosine * r - b;
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

void symmetric_eigenvalues(double *values, double *a, int64_t n)
{
    double *beside = xcalloc((size_t)n, sizeof *beside), scale = 0;
    tridiagonalize(values, beside, a, n);
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(values[i]) + fabs(beside[i]));
    for (int64_t l = 0; l < n; l++) {
        /* What is lost in the largest eigenvalue's rounding counts as zero: without it, a matrix of
         * low rank would need many steps. */
        for (int64_t steps = 0; steps < 200; steps++) {
            int64_t m = l;
            while (m < n - 1 && fabs(beside[m]) > DBL_EPSILON / 2 *
                                                      fmax(fabs(values[m]) + fabs(values[m + 1]),
                                                           DBL_EPSILON * scale))
                m++;
            if (m == l)
                break;
            ql_step(values, beside, l, m);
        }
    }
    free(beside);
}

static int64_t largest_diagonal(const double *a, int64_t n, const int64_t *row, int64_t from)
{
    int64_t best = from;
    for (int64_t i = from + 1; i < n; i++)
        if (a[row[i] * n + row[i]] > a[row[best] * n + row[best]])
            best = i;
    return best;
}

int64_t symmetric_factor(double *l, double *a, int64_t n)
{
    int64_t *row = xmalloc((size_t)n * sizeof *row), rank = 0;
    double limit = 0;
    memset(l, 0, (size_t)(n * n) * sizeof *l);
    for (int64_t i = 0; i < n; i++) {
        row[i] = i;
        limit = fmax(limit, a[i * n + i] * (double)n * DBL_EPSILON);
    }
    for (; rank < n; rank++) {
        int64_t best = largest_diagonal(a, n, row, rank), pivot = row[best];
        double square = a[pivot * n + pivot];
        if (!(square > limit))
            break;
        row[best] = row[rank];
        row[rank] = pivot;
        double root = sqrt(square);
        for (int64_t i = rank; i < n; i++)
            l[row[i] * n + rank] = a[pivot * n + row[i]] / root;
        for (int64_t i = rank + 1; i < n; i++) {
            double factor = l[row[i] * n + rank];
            for (int64_t j = rank + 1; j < n; j++)
                a[row[i] * n + row[j]] -= factor * l[row[j] * n + rank];
        }
    }
    free(row);
    return rank;
}
