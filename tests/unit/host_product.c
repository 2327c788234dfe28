#include "kernels/host_product.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "tests/support/tap.h"

static double *normals(int64_t count, uint64_t id)
{
    float *x = xmalloc((size_t)count * sizeof *x);
    double *y = xmalloc((size_t)count * sizeof *y);
    rng_normal(x, (size_t)count, 1, RNG_POSTERIOR, 0, id, 0);
    for (int64_t i = 0; i < count; i++)
        y[i] = x[i];
    free(x);
    return y;
}

/* Counts elements that differ from sums computed one by one. */
static int64_t wrong(const struct host_product *p, const double *before)
{
    int64_t count = 0;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < p->k; l++)
                sum += (p->a_transposed ? p->a[l * p->m + i] : p->a[i * p->k + l]) *
                       (p->b_transposed ? p->b[j * p->k + l] : p->b[l * p->n + j]);
            sum = p->scale * sum + (p->add ? before[i * p->n + j] : 0);
            count += !(fabs(sum - p->c[i * p->n + j]) <= 1e-12 * (double)p->k);
        }
    return count;
}

static void check(int64_t m, int64_t n, int64_t k)
{
    double *a = normals(m * k, 1), *b = normals(k * n, 2), *before = normals(m * n, 3);
    size_t bytes = (size_t)(m * n) * sizeof(double);
    double *c = xmalloc(bytes), *again = xmalloc(bytes);
    int64_t bad = 0;
    bool same = true;
    for (int kind = 0; kind < 8; kind++) {
        struct host_product p = {.m = m,
                                 .n = n,
                                 .k = k,
                                 .a = a,
                                 .b = b,
                                 .a_transposed = kind & 1,
                                 .b_transposed = kind & 2,
                                 .add = kind & 4,
                                 .scale = -1.5,
                                 .c = c};
        memcpy(c, before, bytes);
        host_product(&p);
        bad += wrong(&p, before);
        memcpy(again, before, bytes);
        p.c = again;
        threads_init(1);
        host_product(&p);
        threads_init(3);
        same &= !memcmp(c, again, bytes);
    }
    tap_ok(bad == 0, "[%" PRId64 ", %" PRId64 "] x [%" PRId64 ", %" PRId64 "], transposed or not",
           m, k, k, n);
    tap_ok(same, "one thread and three give the same bits");
    free(a);
    free(b);
    free(before);
    free(c);
    free(again);
}

int main(void)
{
    message_init("host_product");
    threads_init(3);
    check(1, 1, 1);
    check(4, 4, 8);
    check(5, 7, 3);
    check(37, 50, 41);
    check(130, 66, 129);
    return tap_done();
}
