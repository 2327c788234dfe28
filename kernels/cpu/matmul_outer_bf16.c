#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/cpu/matmul.h"

/* Both sides are stored like activations, k by k, and products take pairs of k: the left side is
 * transposed in blocks, pairs of the right side are interleaved for each tap. A unit's sums, over
 * a segment of k, stay in the cache. */

#define UNIT_ROWS  128 /* at most */
#define LEAST_ROWS 32
#define UNIT_SUMS  9     /* panels times taps, about: panels of a unit share its left side */
#define BLOCK      256   /* of k */
#define SEGMENT    16384 /* of k, so that there is work for many threads with few channels */

struct job {
    const struct matmul_outer_bf16 *m;
    const struct cpu_isa *isa;
    const struct cpu_bf16 *bf16;
    struct panel *panels; /* of columns */
    int64_t panel_count, unit_panels, unit_rows, column_units, row_units, segments;
    float *partial; /* [segments][rows][columns][taps], or NULL: one segment, added to c */
    char *scratch;
    size_t per_worker;
};

/* What is computed next: rows of BF16, `rows` of each. */
struct ahead {
    const uint16_t *left;
    int rows;
    int64_t k;
};

struct buffers {
    uint16_t *pairs;            /* [BLOCK / 2][UNIT_ROWS][2] */
    uint16_t *left;             /* [UNIT_ROWS][BLOCK] */
    uint16_t *right;            /* [BLOCK / 2][width][2] */
    const void **found, **next; /* [taps][BLOCK]: the right side's rows of a block and the next */
    float *sums;                /* [panels of a unit][taps][UNIT_ROWS][width] */
};

static void pack_left(const struct job *j, const struct buffers *b, int64_t k0, int64_t k,
                      int64_t m0, int rows)
{
    const struct matmul_outer_bf16 *m = j->m;
    const void *left[BLOCK];
    int width = (int)round_up(rows, j->isa->lanes);
    for (int64_t i = 0; i < k; i++)
        left[i] = m->a + (k0 + i) * m->lda;
    j->bf16->pair_rows(b->pairs, left, k, m0, rows, width);
    j->isa->pack((float *)b->left, BLOCK / 2, (const float *)b->pairs, width, (int)((k + 1) / 2),
                 width, 1);
}

static void prefetch_row(const uint16_t *row, int count)
{
    for (int i = 0; i < count; i += 32)
        __builtin_prefetch(row + i, 0, 2);
}

/* Asks for a part of what the next block reads: its rows of the left side, and those of the right
 * side under the middle tap. */
static void prefetch(const struct job *j, const struct buffers *b, const struct ahead *next,
                     const struct panel *p, int part, int parts)
{
    int64_t begin = next->k * part / parts, end = next->k * (part + 1) / parts;
    const void **found = b->next + j->m->taps / 2 * BLOCK;
    for (int64_t i = begin; i < end; i++) {
        prefetch_row(next->left + i * j->m->lda, next->rows);
        if (found[i])
            prefetch_row((const uint16_t *)found[i] + p->column, p->columns);
    }
}

static void multiply_block(const struct job *j, const struct buffers *b, const struct panel *p,
                           int64_t k, int rows, bool first, float *sums, const struct ahead *next)
{
    int width = p->vectors * j->isa->lanes;
    const float none[ISA_MAX_COLUMNS] = {0};
    int tiles = (int)divide_up(rows, j->isa->rows);
    for (int tap = 0; tap < j->m->taps; tap++) {
        j->bf16->pair_rows(b->right, b->found + tap * BLOCK, k, p->column, p->columns, width);
        for (int i = 0; i < rows; i += j->isa->rows) {
            const uint16_t *a[ISA_MAX_ROWS];
            for (int r = 0; r < j->isa->rows; r++)
                a[r] = b->left + (i + r) * BLOCK;
            j->bf16->tile(p->vectors, 1, a, (k + 1) / 2 * 2, b->right,
                          sums + (tap * UNIT_ROWS + i) * width, width, first ? none : NULL);
            prefetch(j, b, next, p, tap * tiles + i / j->isa->rows, j->m->taps * tiles);
        }
    }
}

static void put_sums(float *to, const float *sums, int count, const int taps, const bool adds)
{
    for (int k = 0; k < count; k++)
        to[k * taps] = adds ? to[k * taps] + sums[k] : sums[k];
}

static void write_sums(const struct job *j, const float *all_sums, const struct panel *p,
                       int64_t segment, int64_t m0, int rows)
{
    const struct matmul_outer_bf16 *m = j->m;
    int width = p->vectors * j->isa->lanes;
    bool adds = !j->partial && !m->fresh;
    float *c = j->partial ? j->partial + segment * m->rows * m->columns * m->taps : m->c;
    for (int i = 0; i < rows; i++)
        for (int tap = 0; tap < m->taps; tap++) {
            const float *sums = all_sums + (tap * UNIT_ROWS + i) * width;
            float *to = c + ((m0 + i) * m->columns + p->column) * m->taps + tap;
            if (m->taps == 1)
                put_sums(to, sums, p->columns, 1, adds);
            else
                put_sums(to, sums, p->columns, m->taps, adds);
        }
}

/* Finds the rows of the block of k rows at k0, where they are not known, and of the next. */
static void find_block(const struct job *j, struct buffers *b, bool first, int64_t k0, int64_t k,
                       int64_t next)
{
    const struct matmul_outer_bf16 *m = j->m;
    const void **known = b->next;
    b->next = b->found;
    b->found = known;
    if (first)
        m->find_rows(m->context, k0, (int)k, b->found, BLOCK);
    if (next > 0)
        m->find_rows(m->context, k0 + k, (int)next, b->next, BLOCK);
}

static void run_unit(const struct job *j, int64_t unit, struct buffers *b)
{
    const struct matmul_outer_bf16 *m = j->m;
    int64_t first = unit % j->column_units * j->unit_panels;
    int64_t panels = least(j->panel_count - first, j->unit_panels);
    const struct panel *p = &j->panels[first];
    int64_t m0 = unit / j->column_units % j->row_units * j->unit_rows;
    int64_t segment = unit / j->column_units / j->row_units, begin = segment * SEGMENT;
    int64_t panel_sums = (int64_t)m->taps * UNIT_ROWS * ISA_MAX_COLUMNS;
    int64_t end = begin + SEGMENT < m->k ? begin + SEGMENT : m->k;
    int rows = (int)least(m->rows - m0, j->unit_rows);
    for (int64_t k0 = begin; k0 < end; k0 += BLOCK) {
        int64_t k = least(end - k0, BLOCK), k1 = k0 + k;
        struct ahead next = {m->a + k1 * m->lda + m0, rows, least(end - k1, BLOCK)};
        pack_left(j, b, k0, k, m0, rows);
        find_block(j, b, k0 == begin, k0, k, next.k);
        for (int64_t i = 0; i < panels; i++)
            multiply_block(j, b, &p[i], k, rows, k0 == begin, b->sums + i * panel_sums, &next);
    }
    for (int64_t i = 0; i < panels; i++)
        write_sums(j, b->sums + i * panel_sums, &p[i], segment, m0, rows);
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    struct buffers b;
    b.pairs = (uint16_t *)(j->scratch + (size_t)worker * j->per_worker);
    b.left = b.pairs + BLOCK * UNIT_ROWS;
    b.right = b.left + BLOCK * UNIT_ROWS;
    b.sums = (float *)(b.right + BLOCK * ISA_MAX_COLUMNS);
    b.found = (const void **)(b.sums + j->unit_panels * j->m->taps * UNIT_ROWS * ISA_MAX_COLUMNS);
    b.next = b.found + j->m->taps * BLOCK;
    for (int64_t unit = begin; unit < end; unit++)
        run_unit(j, unit, &b);
}

static void add_segments(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    int64_t count = j->m->rows * j->m->columns * j->m->taps;
    float *c = j->m->c + begin;
    if (j->m->fresh)
        memcpy(c, j->partial + begin, (size_t)(end - begin) * sizeof *c);
    for (int64_t s = j->m->fresh; s < j->segments; s++)
        j->isa->add(c, c, j->partial + s * count + begin, end - begin);
}

static size_t partial_bytes(int64_t rows, int64_t columns, int64_t k, int taps)
{
    int64_t segments = divide_up(k, SEGMENT);
    int64_t count = segments > 1 ? segments * rows * columns * taps : 0;
    return (size_t)round_up(count, 16) * sizeof(float);
}

static int panels_of_unit(int taps)
{
    return taps < UNIT_SUMS ? UNIT_SUMS / taps : 1;
}

static size_t worker_bytes(int taps)
{
    return (2 * BLOCK * UNIT_ROWS + BLOCK * ISA_MAX_COLUMNS) * sizeof(uint16_t) +
           (size_t)(panels_of_unit(taps) * taps) * UNIT_ROWS * ISA_MAX_COLUMNS * sizeof(float) +
           2 * (size_t)taps * BLOCK * sizeof(void *);
}

size_t matmul_outer_bf16_bytes(int64_t rows, int64_t columns, int64_t k, int taps)
{
    return partial_bytes(rows, columns, k, taps) + worker_bytes(taps) * (size_t)threads_count();
}

/* Into units, smaller ones if there were fewer than threads. */
static void divide(struct job *j)
{
    const struct matmul_outer_bf16 *m = j->m;
    j->segments = divide_up(m->k, SEGMENT);
    j->column_units = divide_up(j->panel_count, panels_of_unit(m->taps));
    for (j->unit_rows = UNIT_ROWS;; j->unit_rows /= 2) {
        j->row_units = divide_up(m->rows, j->unit_rows);
        if (j->segments * j->row_units * j->column_units >= threads_count() ||
            j->unit_rows == LEAST_ROWS)
            break;
    }
    int64_t wanted = divide_up(threads_count(), j->segments * j->row_units);
    if (j->column_units < wanted)
        j->column_units = least(wanted, j->panel_count);
    j->unit_panels = divide_up(j->panel_count, j->column_units);
    j->column_units = divide_up(j->panel_count, j->unit_panels);
}

void matmul_outer_bf16(struct device *d, const struct matmul_outer_bf16 *m)
{
    if (m->rows == 0 || m->columns == 0 || m->k == 0)
        return;
    struct job j = {.m = m, .isa = cpu_isa(), .bf16 = cpu_bf16()};
    j.panel_count = panels_count(j.isa, m->columns);
    j.panels = xmalloc((size_t)j.panel_count * sizeof *j.panels);
    panels_cut(j.isa, 0, m->columns, j.panels, (int)j.panel_count);
    divide(&j);
    size_t partial = partial_bytes(m->rows, m->columns, m->k, m->taps), granted;
    j.per_worker = worker_bytes(m->taps);
    char *memory =
        device_allocate(d, matmul_outer_bf16_bytes(m->rows, m->columns, m->k, m->taps), &granted);
    j.partial = partial ? (float *)memory : NULL;
    j.scratch = memory + partial;
    parallel_for(j.segments * j.row_units * j.column_units, 1, run_units, &j);
    if (j.partial)
        parallel_for(m->rows * m->columns * m->taps, 16384, add_segments, &j);
    device_release(d, memory, granted);
    free(j.panels);
}
