#include "common/score/neighbours.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/score/products.h"

#define SPARE        4 /* further candidates, for those that rounding has displaced */
#define KEPT         (NEIGHBOURS_DENSE + SPARE)
#define ROW_GRAIN    16
#define COLUMN_GRAIN 128

/* The largest products found so far for one row, the largest first. */
struct nearest {
    int found;
    float products[KEPT];
    int64_t at[KEPT];
};

static void consider(struct nearest *s, float product, int64_t at)
{
    if (s->found == KEPT && product <= s->products[KEPT - 1])
        return;
    int place = s->found < KEPT ? s->found++ : KEPT - 1;
    for (; place > 0 && s->products[place - 1] < product; place--) {
        s->products[place] = s->products[place - 1];
        s->at[place] = s->at[place - 1];
    }
    s->products[place] = product;
    s->at[place] = at;
}

/* A block of products of two sets. */
struct scan {
    struct products_block block;
    float *products;
    struct nearest *rows, *columns; /* of the whole sets */
    struct crossing *crossing;
};

static void scan_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct scan *s = arg;
    for (int64_t i = begin; i < end; i++) {
        const float *row = s->products + i * s->block.columns;
        int64_t self = s->columns ? s->block.first_row + i - s->block.first_column : -1;
        struct nearest *n = &s->rows[s->block.first_row + i];
        for (int64_t j = 0; j < s->block.columns; j++)
            if (j != self)
                consider(n, row[j], s->block.first_column + j);
    }
}

/* The same products, as those of the columns' rows. */
static void scan_columns(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct scan *s = arg;
    for (int64_t i = 0; i < s->block.rows; i++) {
        const float *row = s->products + i * s->block.columns;
        for (int64_t j = begin; j < end; j++)
            consider(&s->columns[s->block.first_column + j], row[j], s->block.first_row + i);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Squares of the distances to the nearest, the NEIGHBOURS_BALL-th and the NEIGHBOURS_DENSE-th
 * neighbor in the same set. */
struct radii {
    double nearest, ball, dense;
};

struct sorting {
    const struct embeddings *x;
    const struct nearest *nearest;
    struct radii *radii;
};

static void find_radii(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct sorting *s = arg;
    const float *values = s->x->values;
    int64_t width = s->x->width;
    for (int64_t i = begin; i < end; i++) {
        const struct nearest *n = &s->nearest[i];
        double distance2[KEPT];
        for (int k = 0; k < n->found; k++)
            distance2[k] =
                embeddings_distance2(values + i * width, values + n->at[k] * width, width);
        qsort(distance2, (size_t)n->found, sizeof *distance2, ascending);
        s->radii[i] = (struct radii){distance2[0], distance2[NEIGHBOURS_BALL - 1],
                                     distance2[NEIGHBOURS_DENSE - 1]};
    }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* malloc'ed, one per row. */
static struct radii *measure_radii(struct tape *t, const struct embeddings *x, struct tensor *rows)
{
    struct nearest *nearest = xcalloc((size_t)x->count, sizeof *nearest);
    struct radii *radii = xmalloc((size_t)x->count * sizeof *radii);
    struct scan s = {.block = {.a = rows, .b = rows}, .rows = nearest, .columns = nearest};
    s.products = xmalloc(sizeof *s.products * PRODUCTS_BLOCK * PRODUCTS_BLOCK);
    for (int64_t i = 0; i < x->count; i += PRODUCTS_BLOCK) {
        for (int64_t j = i; j < x->count; j += PRODUCTS_BLOCK) {
            s.block.first_row = i;
            s.block.rows = least(PRODUCTS_BLOCK, x->count - i);
            s.block.first_column = j;
            s.block.columns = least(PRODUCTS_BLOCK, x->count - j);
            products_run(s.products, t, &s.block);
            parallel_for(s.block.rows, ROW_GRAIN, scan_rows, &s);
            if (j > i)
                parallel_for(s.block.columns, COLUMN_GRAIN, scan_columns, &s);
        }
    }
    struct sorting sorting = {x, nearest, radii};
    parallel_for(x->count, ROW_GRAIN, find_radii, &sorting);
    free(s.products);
    free(nearest);
    return radii;
}

/* A sample's ball reaches a product of at least this, and that of one that is close. */
static float limit_of(double radius2)
{
    return (float)(1 - radius2 / 2) - PRODUCTS_ERROR;
}

/* What is found between the sets. */
struct crossing {
    const struct embeddings *samples, *reference;
    const struct radii *of_samples, *of_reference;
    float *limits; /* [reference] limit_of their larger ball */
    bool *precise; /* [samples] */
    int64_t *dense;
    atomic_bool *recalled, *covered; /* [reference] */
    struct nearest *nearest;         /* [samples] */
};

struct pair {
    const float *sample, *reference;
    int64_t width;
    float product;
};

/* Whether the pair is as near as the square of this radius. */
static bool within(const struct pair *p, double radius2)
{
    float cut = (float)(1 - radius2 / 2);
    if (fabsf(p->product - cut) > PRODUCTS_ERROR)
        return p->product > cut;
    return embeddings_distance2(p->sample, p->reference, p->width) <= radius2;
}

static void cross_pair(struct crossing *c, int64_t i, int64_t j, float product)
{
    int64_t width = c->samples->width;
    struct pair p = {c->samples->values + i * width, c->reference->values + j * width, width,
                     product};
    if (product >= c->limits[j] && within(&p, c->of_reference[j].dense)) {
        c->dense[i]++;
        atomic_store_explicit(&c->covered[j], true, memory_order_relaxed);
        if (!c->precise[i] && within(&p, c->of_reference[j].ball))
            c->precise[i] = true;
    }
    if (!atomic_load_explicit(&c->recalled[j], memory_order_relaxed) &&
        within(&p, c->of_samples[i].ball))
        atomic_store_explicit(&c->recalled[j], true, memory_order_relaxed);
}

static void cross_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct scan *s = arg;
    struct crossing *c = s->crossing;
    for (int64_t i = begin; i < end; i++) {
        const float *row = s->products + i * s->block.columns;
        const float *limits = c->limits + s->block.first_column;
        int64_t at = s->block.first_row + i;
        float limit = limit_of(c->of_samples[at].ball);
        for (int64_t j = 0; j < s->block.columns; j++)
            if (row[j] >= limits[j] || row[j] >= limit)
                cross_pair(c, at, s->block.first_column + j, row[j]);
    }
    scan_rows(arg, begin, end, worker);
}

static void cross_all(struct crossing *c, struct tape *t, struct tensor *samples,
                      struct tensor *reference)
{
    struct scan s = {.block = {.a = samples, .b = reference}, .rows = c->nearest, .crossing = c};
    s.products = xmalloc(sizeof *s.products * PRODUCTS_BLOCK * PRODUCTS_BLOCK);
    for (int64_t i = 0; i < c->samples->count; i += PRODUCTS_BLOCK) {
        for (int64_t j = 0; j < c->reference->count; j += PRODUCTS_BLOCK) {
            s.block.first_row = i;
            s.block.rows = least(PRODUCTS_BLOCK, c->samples->count - i);
            s.block.first_column = j;
            s.block.columns = least(PRODUCTS_BLOCK, c->reference->count - j);
            products_run(s.products, t, &s.block);
            parallel_for(s.block.rows, ROW_GRAIN, cross_rows, &s);
        }
    }
    free(s.products);
}

/* The nearest row of the reference to sample i, exactly. */
static void find_nearest(struct neighbours *out, const struct crossing *c, int64_t i)
{
    const struct nearest *n = &c->nearest[i];
    int64_t width = c->samples->width;
    out->distance2[i] = INFINITY;
    for (int k = 0; k < n->found; k++) {
        double distance2 = embeddings_distance2(c->samples->values + i * width,
                                                c->reference->values + n->at[k] * width, width);
        if (distance2 < out->distance2[i]) {
            out->distance2[i] = distance2;
            out->nearest[i] = n->at[k];
        }
    }
}

static void count(struct neighbours *out, const struct crossing *c)
{
    double precise = 0, dense = 0, recalled = 0, covered = 0, memorised = 0;
    double samples = (double)c->samples->count, reference = (double)c->reference->count;
    for (int64_t i = 0; i < c->samples->count; i++) {
        find_nearest(out, c, i);
        precise += c->precise[i];
        dense += (double)c->dense[i];
        memorised += out->distance2[i] < c->of_reference[out->nearest[i]].nearest;
    }
    for (int64_t j = 0; j < c->reference->count; j++) {
        recalled += atomic_load(&c->recalled[j]);
        covered += atomic_load(&c->covered[j]);
    }
    out->precision = precise / samples;
    out->recall = recalled / reference;
    out->density = dense / (NEIGHBOURS_DENSE * samples);
    out->coverage = covered / reference;
    out->memorised = memorised / samples;
}

void neighbours_measure(struct neighbours *out, struct tape *t, const struct embeddings *samples,
                        const struct embeddings *reference)
{
    size_t m = (size_t)samples->count, n = (size_t)reference->count;
    CHECK(samples->count > NEIGHBOURS_DENSE && reference->count > NEIGHBOURS_DENSE);
    struct tensor *rows = products_upload(t, samples->values, samples->count, samples->width);
    struct tensor *columns =
        products_upload(t, reference->values, reference->count, reference->width);
    struct radii *of_samples = measure_radii(t, samples, rows);
    struct radii *of_reference = measure_radii(t, reference, columns);
    struct crossing c = {.samples = samples,
                         .reference = reference,
                         .of_samples = of_samples,
                         .of_reference = of_reference,
                         .limits = xmalloc(n * sizeof *c.limits),
                         .precise = xcalloc(m, sizeof *c.precise),
                         .dense = xcalloc(m, sizeof *c.dense),
                         .recalled = xcalloc(n, sizeof *c.recalled),
                         .covered = xcalloc(n, sizeof *c.covered),
                         .nearest = xcalloc(m, sizeof *c.nearest)};
    for (int64_t j = 0; j < reference->count; j++)
        c.limits[j] = limit_of(of_reference[j].dense);
    cross_all(&c, t, rows, columns);
    *out = (struct neighbours){.nearest = xcalloc(m, sizeof *out->nearest),
                               .distance2 = xcalloc(m, sizeof *out->distance2)};
    count(out, &c);
    tensor_release(rows);
    tensor_release(columns);
    free(of_samples);
    free(of_reference);
    free(c.limits);
    free(c.precise);
    free(c.dense);
    free(c.recalled);
    free(c.covered);
    free(c.nearest);
}
