#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/matmul.h"

/* Products of BF16, accumulated in F32. A unit's sums stay in the cache until all channels are
 * added, and are rounded once. Where the processor has no product of BF16, or the number of
 * channels is odd, both sides are widened in the cache, and the products are the same. */

struct job {
    const struct matmul *m;
    const struct cpu_isa *isa;
    const struct cpu_bf16 *bf16; /* NULL: widened */
    struct matmul_units units;
    char *scratch;
    size_t per_worker;
};

/* Scratch of a worker. */
struct buffers {
    void *packed[UNIT_PANELS]; /* as the tile takes it */
    float *floats;             /* one panel, before it is paired */
    float *converted;          /* weights that are not F32 */
    float *left;               /* [taps][rows][channels], if widened */
    float *sums[UNIT_PANELS];  /* [unit's rows][panel's width] */
    uint16_t *zeros;           /* a row's */
};

/* Lays buffers out in memory, which may be NULL; returns their bytes. */
static size_t lay_out(struct buffers *b, const struct job *j, char *memory)
{
    size_t channels = (size_t)j->units.channels, taps = (size_t)j->m->taps, used = 0;
    size_t block = (channels + 1) * taps * ISA_MAX_COLUMNS;
    size_t rows = (size_t)(j->units.rows + ISA_MAX_ROWS);
    for (int i = 0; i < UNIT_PANELS; i++) {
        b->packed[i] =
            take_scratch(memory, &used, block * (j->bf16 ? sizeof(uint16_t) : sizeof(float)));
        b->sums[i] = take_scratch(memory, &used, rows * ISA_MAX_COLUMNS * sizeof(float));
    }
    b->floats = take_scratch(memory, &used, j->bf16 ? block * sizeof(float) : 0);
    b->converted =
        take_scratch(memory, &used, j->m->weight_dtype == DTYPE_F32 ? 0 : block * sizeof(float));
    b->left =
        take_scratch(memory, &used, j->bf16 ? 0 : channels * taps * ISA_MAX_ROWS * sizeof(float));
    b->zeros = take_scratch(memory, &used, (channels + 1) * sizeof *b->zeros);
    return used;
}

/* Whether pairs of weights are transposed as they lie, like floats. */
static bool packs_pairs(const struct job *j)
{
    const struct matmul *m = j->m;
    return j->bf16 && m->weight_dtype == DTYPE_BF16 && !m->weight_rows && m->taps == 1 &&
           m->channels % 2 == 0;
}

static void pack_panel(const struct job *j, const struct panel *p, int64_t c0, int64_t channels,
                       const struct buffers *b, void *packed)
{
    const struct matmul *m = j->m;
    int width = p->vectors * j->isa->lanes;
    if (packs_pairs(j)) {
        const uint16_t *w = (const uint16_t *)m->weight + p->column * m->channels + c0;
        j->isa->pack(packed, width, (const float *)w, m->channels / 2, p->columns, channels / 2, 1);
        return;
    }
    size_t count = (size_t)(channels * m->taps * width);
    float *floats = j->bf16 ? b->floats : packed;
    matmul_pack(m, p, c0, channels, floats, b->converted);
    int64_t even = (channels + 1) / 2 * 2;
    if (j->bf16)
        for (int tap = 0; tap < m->taps; tap++)
            j->isa->pair((uint16_t *)packed + tap * even * width, floats + tap * channels * width,
                         width, channels);
    else if (m->weight_dtype != DTYPE_BF16)
        j->isa->round_to_bf16(floats, count);
}

static void run_tile(const struct job *j, const struct panel *p, const void *const *a,
                     int64_t channels, const void *packed, float *sums, const float *init)
{
    int taps = j->m->taps, width = p->vectors * j->isa->lanes, count = taps * j->isa->rows;
    if (j->bf16) {
        const uint16_t *rows[count];
        for (int i = 0; i < count; i++)
            rows[i] = a[i];
        j->bf16->tile(p->vectors, taps, rows, (channels + 1) / 2 * 2, packed, sums, width, init);
    } else {
        const float *rows[count];
        for (int i = 0; i < count; i++)
            rows[i] = a[i];
        j->isa->tile(p->vectors, taps, rows, channels, packed, sums, width, init);
    }
}

/* Finds the rows of a tile from channel c0 on; `rows` of them exist. */
static void find_tile(const struct job *j, int64_t r, int rows, int64_t c0, int64_t channels,
                      const struct buffers *b, const void **a)
{
    const struct matmul *m = j->m;
    m->find_rows(m->context, r, rows, a, j->isa->rows);
    for (int tap = 0; tap < m->taps; tap++)
        for (int i = 0; i < j->isa->rows; i++) {
            int at = tap * j->isa->rows + i;
            if (i >= rows) {
                a[at] = a[at - 1];
                continue;
            }
            a[at] = a[at] ? (const uint16_t *)a[at] + c0 : b->zeros;
            if (j->bf16)
                continue;
            float *floats = b->left + at * j->units.channels;
            j->isa->widen(floats, DTYPE_BF16, a[at], (size_t)channels);
            a[at] = floats;
        }
}

static void write_rows(const struct job *j, const struct panel *p, const float *sums, int64_t m0,
                       int64_t m1)
{
    const struct matmul *m = j->m;
    int width = p->vectors * j->isa->lanes;
    for (int64_t r = m0; r < m1; r++) {
        float row[ISA_MAX_COLUMNS];
        const float *values = sums + (r - m0) * width;
        int64_t at = r * m->ldc + p->column;
        if (m->act != ACTIVATION_NONE) {
            j->isa->activation(row, values, p->columns, m->act);
            values = row;
        }
        if (m->residual) {
            float before[ISA_MAX_COLUMNS];
            j->isa->widen(before, DTYPE_BF16, (const uint16_t *)m->residual + at,
                          (size_t)p->columns);
            j->isa->add(row, values, before, p->columns);
            values = row;
        }
        if (j->bf16)
            j->bf16->narrow((uint16_t *)m->c + at, values, p->columns, 1);
        else
            j->isa->narrow((uint16_t *)m->c + at, values, (size_t)p->columns);
    }
}

static void run_unit(const struct job *j, int64_t unit, const struct buffers *b)
{
    const struct matmul *m = j->m;
    const struct cpu_isa *isa = j->isa;
    const struct matmul_units *u = &j->units;
    struct matmul_unit part = matmul_unit(m, u, unit);
    const struct panel *panels = part.panels;
    float bias[UNIT_PANELS][ISA_MAX_COLUMNS] = {{0}};
    for (int i = 0; i < part.count && m->bias; i++)
        memcpy(bias[i], m->bias + panels[i].column, (size_t)panels[i].columns * sizeof(float));
    for (int64_t c0 = 0; c0 < m->channels; c0 += u->channels) {
        int64_t channels = least(m->channels - c0, u->channels);
        for (int i = 0; i < part.count; i++)
            pack_panel(j, &panels[i], c0, channels, b, b->packed[i]);
        for (int64_t r = part.m0; r < part.m1; r += isa->rows) {
            const void *a[m->taps * isa->rows];
            find_tile(j, r, (int)least(part.m1 - r, isa->rows), c0, channels, b, a);
            for (int i = 0; i < part.count; i++)
                run_tile(j, &panels[i], a, channels, b->packed[i],
                         b->sums[i] + (r - part.m0) * panels[i].vectors * isa->lanes,
                         c0 == 0 ? bias[i] : NULL);
        }
    }
    for (int i = 0; i < part.count; i++)
        write_rows(j, &panels[i], b->sums[i], part.m0, part.m1);
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    struct buffers b;
    lay_out(&b, j, j->scratch + (size_t)worker * j->per_worker);
    memset(b.zeros, 0, (size_t)(j->units.channels + 1) * sizeof *b.zeros);
    for (int64_t unit = begin; unit < end; unit++)
        run_unit(j, unit, &b);
}

/* Without memory yet. */
static struct job begin_job(const struct matmul *m)
{
    bool pairs = m->channels % 2 == 0 || m->even_rows;
    struct job j = {.m = m, .isa = cpu_isa(), .bf16 = pairs ? cpu_bf16() : NULL};
    j.units = matmul_units(m, j.isa);
    struct buffers b;
    j.per_worker = lay_out(&b, &j, NULL);
    return j;
}

static size_t job_bytes(const struct job *j)
{
    return j->per_worker * (size_t)threads_count();
}

size_t matmul_bf16_bytes(const struct matmul *m)
{
    struct job j = begin_job(m);
    return job_bytes(&j);
}

void matmul_bf16(struct device *d, const struct matmul *m)
{
    struct job j = begin_job(m);
    size_t granted;
    j.scratch = device_allocate(d, job_bytes(&j), &granted);
    parallel_for(j.units.column_units * j.units.row_units, 1, run_units, &j);
    device_release(d, j.scratch, granted);
}
