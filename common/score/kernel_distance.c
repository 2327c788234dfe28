#include "common/score/kernel_distance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/data/order.h"
#include "common/score/products.h"

#define GRAIN 16 /* rows in a unit of work for a thread */

struct summing {
    const double *products; /* [rows, columns] */
    int64_t columns;
    bool same;    /* rows and columns are the same set: without the diagonal */
    double *sums; /* [rows] */
};

static void sum_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct summing *s = arg;
    for (int64_t i = begin; i < end; i++) {
        const double *row = s->products + i * s->columns;
        double sum = 0;
        for (int64_t j = 0; j < s->columns; j++) {
            double v = row[j] + 1;
            sum += s->same && i == j ? 0 : v * v * v;
        }
        s->sums[i] = sum;
    }
}

/* The sum of k over all pairs; of a set with itself, over pairs of different rows. */
static double sum_pairs(struct tape *t, const struct split_rows *a, const struct split_rows *b)
{
    double *products = xmalloc((size_t)(a->count * b->count) * sizeof *products);
    struct summing s = {.products = products, .columns = b->count, .same = a == b};
    double sum = 0;
    s.sums = xmalloc((size_t)a->count * sizeof *s.sums);
    products_run_split(products, t, a, b);
    parallel_for(a->count, GRAIN, sum_rows, &s);
    for (int64_t i = 0; i < a->count; i++)
        sum += s.sums[i];
    free(s.sums);
    free(products);
    return sum;
}

static double discrepancy(struct tape *t, const struct split_rows *a, const struct split_rows *b)
{
    double m = (double)a->count, n = (double)b->count;
    return sum_pairs(t, a, a) / (m * (m - 1)) + sum_pairs(t, b, b) / (n * (n - 1)) -
           2 * sum_pairs(t, a, b) / (m * n);
}

static struct split_rows draw(struct tape *t, const struct embeddings *x, uint64_t seed,
                              int64_t epoch)
{
    int64_t count = x->count < KERNEL_SUBSET_SIZE ? x->count : KERNEL_SUBSET_SIZE;
    size_t width = (size_t)x->width;
    float *rows = xmalloc((size_t)count * width * sizeof *rows);
    struct order order;
    order_init(&order, x->count, 0);
    for (int64_t i = 0; i < count; i++)
        memcpy(rows + (size_t)i * width,
               x->values + (size_t)order_record_at(&order, seed, epoch, i) * width,
               width * sizeof *rows);
    order_release(&order);
    struct split_rows s;
    split_rows_upload(&s, t, rows, count, x->width);
    free(rows);
    return s;
}

void kernel_distance_measure(struct kernel_distance *out, struct tape *t,
                             const struct embeddings *samples, const struct embeddings *reference,
                             uint64_t seed)
{
    double values[KERNEL_SUBSETS], mean = 0, square = 0;
    CHECK(samples->count >= 2 && reference->count >= 2);
    for (int i = 0; i < KERNEL_SUBSETS; i++) {
        struct split_rows a = draw(t, samples, seed, 2 * i),
                          b = draw(t, reference, seed, 2 * i + 1);
        values[i] = discrepancy(t, &a, &b);
        mean += values[i] / KERNEL_SUBSETS;
        split_rows_release(&a);
        split_rows_release(&b);
    }
    for (int i = 0; i < KERNEL_SUBSETS; i++)
        square += (values[i] - mean) * (values[i] - mean) / KERNEL_SUBSETS;
    *out = (struct kernel_distance){mean, sqrt(square)};
}
