#include "common/score/duplicates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/threads.h"
#include "common/score/products.h"

#define BLOCK     PRODUCTS_BLOCK
#define PANEL     (32 * BLOCK) /* records on the device at a time, twice */
#define ROW_GRAIN 16

/* What is known of one record. */
struct nearest {
    int64_t first;   /* the record that is kept for it; its own number: it is kept */
    double distance; /* infinite if it is kept */
    bool mirrored;
};

struct comparison {
    struct tape *tape;
    int64_t count, width;
    double limit;
    const int *mirror; /* columns of mirrored rows, or NULL */
    float *values;     /* [count, width] */
    float *halves;     /* [count]: half the square of the length */
    struct nearest *nearest;
    struct products_block block;     /* rows: later records, columns: earlier ones */
    int64_t later, earlier;          /* the numbers of the first records of the panels */
    struct tensor *plain, *mirrored; /* of the earlier panel */
    float *products[2];              /* of a block: with plain rows, with mirrored ones */
    struct progress *progress;
    int64_t done; /* blocks */
};

/* An embeds_visit. */
static void keep_rows(void *context, const float *rows, int64_t first, int64_t n, int worker)
{
    struct comparison *c = context;
    size_t bytes = (size_t)(n * c->width) * sizeof *rows;
    memcpy(c->values + first * c->width, rows, bytes);
    for (int64_t i = 0; i < n; i++) {
        const float *row = rows + i * c->width;
        c->halves[first + i] = (float)(embeddings_cosine(row, row, c->width) / 2);
        c->nearest[first + i] = (struct nearest){first + i, INFINITY, false};
    }
}

static void mirror_row(float *out, const float *row, const struct comparison *c)
{
    for (int64_t i = 0; i < c->width; i++)
        out[i] = row[c->mirror[i]];
}

static double distance_between(const struct comparison *c, int64_t at, int64_t first, bool mirrored)
{
    const float *a = c->values + at * c->width, *b = c->values + first * c->width;
    double sum = 0;
    if (!mirrored)
        return embeddings_distance2(a, b, c->width) / 2;
    for (int64_t i = 0; i < c->width; i++) {
        double d = (double)a[i] - b[c->mirror[i]];
        sum += d * d;
    }
    return sum / 2;
}

static void compare_pair(struct comparison *c, int64_t at, int64_t first, bool mirrored)
{
    struct nearest *n = &c->nearest[at];
    if (c->nearest[first].first != first) /* not kept */
        return;
    double distance = distance_between(c, at, first, mirrored);
    if (distance <= c->limit && distance < n->distance)
        *n = (struct nearest){first, distance, mirrored};
}

/* Row i of the block with its first `columns` columns. */
static void compare_products(struct comparison *c, int64_t i, int64_t columns, bool mirrored)
{
    const float *row = c->products[mirrored] + i * c->block.columns;
    int64_t at = c->later + c->block.first_row + i, first = c->earlier + c->block.first_column;
    const float *halves = c->halves + first;
    float least = c->halves[at] - (float)c->limit - 2 * PRODUCTS_ERROR;
    for (int64_t j = 0; j < columns; j++)
        if (row[j] >= least + halves[j]) /* not NaN */
            compare_pair(c, at, first + j, mirrored);
}

static void compare_row(struct comparison *c, int64_t i, int64_t columns)
{
    compare_products(c, i, columns, false);
    if (c->mirror)
        compare_products(c, i, columns, true);
}

static void compare_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    struct comparison *c = arg;
    for (int64_t i = begin; i < end; i++)
        compare_row(c, i, c->block.columns);
}

static int64_t least_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Which of the records of one block are kept depends on those before them in it. */
static void compare_block(struct comparison *c)
{
    bool same = c->later + c->block.first_row == c->earlier + c->block.first_column;
    c->block.b = c->plain;
    products_run(c->products[0], c->tape, &c->block);
    if (c->mirror) {
        c->block.b = c->mirrored;
        products_run(c->products[1], c->tape, &c->block);
    }
    if (!same)
        parallel_for(c->block.rows, ROW_GRAIN, compare_rows, c);
    for (int64_t i = 0; same && i < c->block.rows; i++)
        compare_row(c, i, i);
    progress_update(c->progress, ++c->done, NULL);
}

/* All records of one panel with those of another, or of itself, that come before them. */
static void compare_panels(struct comparison *c, int64_t later, int64_t earlier)
{
    bool same = later == earlier;
    int64_t rows = c->block.a->shape[0], columns = c->plain->shape[0];
    c->later = later;
    c->earlier = earlier;
    for (int64_t i = 0; i < rows; i += BLOCK) {
        c->block.first_row = i;
        c->block.rows = least_of(BLOCK, rows - i);
        for (int64_t j = 0; j < columns && (!same || j <= i); j += BLOCK) {
            c->block.first_column = j;
            c->block.columns = least_of(BLOCK, columns - j);
            compare_block(c);
        }
    }
}

static struct tensor *upload_panel(const struct comparison *c, int64_t first)
{
    return products_upload(c->tape, c->values + first * c->width, least_of(PANEL, c->count - first),
                           c->width);
}

static struct tensor *upload_mirrored(const struct comparison *c, int64_t first)
{
    int64_t n = least_of(PANEL, c->count - first);
    if (!c->mirror)
        return NULL;
    float *rows = xmalloc((size_t)(n * c->width) * sizeof *rows);
    for (int64_t i = 0; i < n; i++)
        mirror_row(rows + i * c->width, c->values + (first + i) * c->width, c);
    struct tensor *t = products_upload(c->tape, rows, n, c->width);
    free(rows);
    return t;
}

/* A panel meets the earlier ones first, whose records are decided, and then itself. */
static void compare_all(struct comparison *c)
{
    int64_t blocks = (c->count + BLOCK - 1) / BLOCK;
    c->progress = progress_start("comparing", "blocks", blocks * (blocks + 1) / 2);
    for (int i = 0; i < 2; i++)
        c->products[i] = xmalloc(sizeof(float) * BLOCK * BLOCK);
    for (int64_t later = 0; later < c->count; later += PANEL) {
        c->block.a = upload_panel(c, later);
        for (int64_t earlier = 0; earlier <= later; earlier += PANEL) {
            c->plain = earlier == later ? c->block.a : upload_panel(c, earlier);
            c->mirrored = upload_mirrored(c, earlier);
            compare_panels(c, later, earlier);
            tensor_release(c->mirrored);
            if (earlier != later)
                tensor_release(c->plain);
        }
        tensor_release(c->block.a);
    }
    for (int i = 0; i < 2; i++)
        free(c->products[i]);
    progress_finish(c->progress);
}

static int in_groups(const void *a, const void *b)
{
    const struct duplicate *x = a, *y = b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static void collect(struct duplicates *out, const struct comparison *c)
{
    for (int64_t i = 0; i < c->count; i++)
        out->count += c->nearest[i].first != i;
    out->items = xcalloc((size_t)out->count + 1, sizeof *out->items);
    int64_t n = 0;
    for (int64_t i = 0; i < c->count; i++)
        if (c->nearest[i].first != i)
            out->items[n++] = (struct duplicate){c->nearest[i].first, i, c->nearest[i].distance,
                                                 c->nearest[i].mirrored};
    qsort(out->items, (size_t)n, sizeof *out->items, in_groups);
    for (int64_t i = 0; i < n; i++)
        out->groups += i == 0 || out->items[i].first != out->items[i - 1].first;
}

void duplicates_find(struct duplicates *out, struct embed_stores *s, struct tape *t, double limit,
                     const int *mirror)
{
    size_t count = (size_t)s->count;
    struct comparison c = {
        .tape = t, .count = s->count, .width = s->width, .limit = limit, .mirror = mirror};
    c.values = xmalloc(count * (size_t)s->width * sizeof *c.values + 1);
    c.halves = xcalloc(count + 1, sizeof *c.halves);
    c.nearest = xcalloc(count + 1, sizeof *c.nearest);
    embed_stores_scan(s, keep_rows, &c);
    compare_all(&c);
    *out = (struct duplicates){0};
    collect(out, &c);
    free(c.values);
    free(c.halves);
    free(c.nearest);
}

void duplicates_release(struct duplicates *d)
{
    free(d->items);
    *d = (struct duplicates){0};
}
