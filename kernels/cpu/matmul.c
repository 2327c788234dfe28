#include "kernels/cpu/matmul.h"

#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"

#define UNIT_ROWS 512 /* a unit's results stay in the cache between blocks of channels */
#define BLOCK_PRODUCT                                                                              \
    576 /* channels * taps per block, about: packed weights fill half of an L2 cache */

int panels_cut(const struct cpu_isa *isa, int64_t begin, int64_t columns, struct panel *out,
               int max)
{
    int64_t vectors = divide_up(columns, isa->lanes);
    int count = panels_count(isa, columns);
    CHECK(count <= max);
    int64_t done = 0;
    for (int i = 0; i < count; i++) {
        int64_t next = vectors * (i + 1) / count;
        int64_t column = done * isa->lanes, end = next * isa->lanes;
        out[i].column = begin + column;
        out[i].columns = (int)((end < columns ? end : columns) - column);
        out[i].vectors = (int)(next - done);
        done = next;
    }
    return count;
}

const float *weights_as_f32(enum dtype dtype, const void *weight, int64_t first, int count,
                            int64_t ld, int64_t offset, int64_t length, float *scratch,
                            int64_t *ld_out)
{
    if (dtype == DTYPE_F32) {
        *ld_out = ld;
        return (const float *)weight + first * ld + offset;
    }
    size_t size = dtype_size(dtype);
    for (int i = 0; i < count; i++)
        cpu_isa()->widen(scratch + i * length, dtype,
                         (const char *)weight + (size_t)((first + i) * ld + offset) * size,
                         (size_t)length);
    *ld_out = length;
    return scratch;
}

void pack_rows(float *dst, int width, const float *src, int64_t ld, int64_t count, int columns)
{
    for (int64_t i = 0; i < count; i++) {
        memcpy(dst + i * width, src + i * ld, (size_t)columns * sizeof *dst);
        if (columns < width)
            memset(dst + i * width + columns, 0, (size_t)(width - columns) * sizeof *dst);
    }
}

void find_dense_rows(const void *context, int64_t m, int count, const void **a, int stride)
{
    const struct dense_rows *rows = context;
    for (int i = 0; i < count; i++)
        a[i] = (const char *)rows->data + (size_t)((m + i) * rows->ld) * dtype_size(rows->dtype);
}

struct job {
    const struct matmul *m;
    const struct cpu_isa *isa;
    struct matmul_units units;
    float *scratch;
    size_t per_worker; /* floats */
    const float *zeros;
};

void matmul_pack(const struct matmul *m, const struct panel *p, int64_t c0, int64_t channels,
                 float *packed, float *converted)
{
    int width = p->vectors * cpu_isa()->lanes;
    int64_t ld;
    if (m->weight_rows) {
        pack_rows(packed, width, (const float *)m->weight + c0 * m->columns + p->column, m->columns,
                  channels, p->columns);
        return;
    }
    const float *w =
        weights_as_f32(m->weight_dtype, m->weight, p->column, p->columns, m->channels * m->taps,
                       c0 * m->taps, channels * m->taps, converted, &ld);
    cpu_isa()->pack(packed, width, w, ld, p->columns, channels * m->taps, m->taps);
}

struct matmul_unit matmul_unit(const struct matmul *m, const struct matmul_units *u, int64_t unit)
{
    struct matmul_unit part;
    part.n0 = unit % u->column_units * u->columns;
    part.n1 = least(part.n0 + u->columns, m->columns);
    part.m0 = unit / u->column_units * u->rows;
    part.m1 = least(part.m0 + u->rows, m->rows);
    part.count = panels_cut(cpu_isa(), part.n0, part.n1 - part.n0, part.panels, UNIT_PANELS);
    return part;
}

static void run_tile(const struct job *j, const struct panel *p, const float *const *a,
                     int64_t channels, const float *packed, int64_t m0, int rows, float *edge,
                     const float *init)
{
    const struct matmul *m = j->m;
    int width = p->vectors * j->isa->lanes;
    float *c = (float *)m->c + m0 * m->ldc + p->column;
    if (rows == j->isa->rows && p->columns == width) {
        j->isa->tile(p->vectors, m->taps, a, channels, packed, c, m->ldc, init);
        return;
    }
    size_t bytes = (size_t)p->columns * sizeof(float);
    if (!init)
        for (int i = 0; i < rows; i++)
            memcpy(edge + i * width, c + i * m->ldc, bytes);
    j->isa->tile(p->vectors, m->taps, a, channels, packed, edge, width, init);
    for (int i = 0; i < rows; i++)
        memcpy(c + i * m->ldc, edge + i * width, bytes);
}

static void run_unit(const struct job *j, int64_t unit, float *scratch)
{
    const struct matmul *m = j->m;
    const struct cpu_isa *isa = j->isa;
    const struct matmul_units *u = &j->units;
    struct matmul_unit part = matmul_unit(m, u, unit);

    /* Scratch of a worker: packed weights, converted weights, an edge tile and a padded bias. */
    size_t block = (size_t)(u->channels * m->taps) * ISA_MAX_COLUMNS;
    float *packed[UNIT_PANELS], *converted = scratch + UNIT_PANELS * block;
    float *edge = converted + (m->weight_dtype == DTYPE_F32 ? 0 : block);
    float *bias[UNIT_PANELS];
    for (int i = 0; i < part.count; i++) {
        packed[i] = scratch + (size_t)i * block;
        bias[i] = edge + (ISA_MAX_ROWS + i) * ISA_MAX_COLUMNS;
        memset(bias[i], 0, ISA_MAX_COLUMNS * sizeof(float));
        if (m->bias)
            memcpy(bias[i], m->bias + part.panels[i].column,
                   (size_t)part.panels[i].columns * sizeof(float));
    }
    for (int64_t c0 = 0; c0 < m->channels; c0 += u->channels) {
        int64_t channels = least(m->channels - c0, u->channels);
        for (int i = 0; i < part.count; i++)
            matmul_pack(m, &part.panels[i], c0, channels, packed[i], converted);
        for (int64_t r = part.m0; r < part.m1; r += isa->rows) {
            int rows = (int)least(part.m1 - r, isa->rows);
            const void *found[m->taps * isa->rows];
            const float *a[m->taps * isa->rows];
            m->find_rows(m->context, r, rows, found, isa->rows);
            for (int tap = 0; tap < m->taps; tap++)
                for (int i = 0; i < isa->rows; i++) {
                    int at = tap * isa->rows + i;
                    a[at] = i >= rows   ? a[at - 1]
                            : found[at] ? (const float *)found[at] + c0
                                        : j->zeros;
                }
            for (int i = 0; i < part.count; i++)
                run_tile(j, &part.panels[i], a, channels, packed[i], r, rows, edge,
                         c0 == 0 ? bias[i] : NULL);
        }
    }
    if (m->act != ACTIVATION_NONE)
        for (int64_t r = part.m0; r < part.m1; r++) {
            float *row = (float *)m->c + r * m->ldc + part.n0;
            isa->activation(row, row, part.n1 - part.n0, m->act);
        }
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t unit = begin; unit < end; unit++)
        run_unit(j, unit, j->scratch + (size_t)worker * j->per_worker);
}

struct matmul_units matmul_units(const struct matmul *m, const struct cpu_isa *isa)
{
    struct matmul_units u;
    int block = m->dtype == DTYPE_BF16 && cpu_bf16() ? 2 * BLOCK_PRODUCT : BLOCK_PRODUCT;
    u.channels = m->taps == 1 ? block * 2 / 3 : block / m->taps / 16 * 16;
    if (u.channels < 16)
        u.channels = 16;
    if (u.channels > m->channels)
        u.channels = m->channels;

    int64_t vectors = divide_up(m->columns, isa->lanes);
    u.column_units = divide_up(vectors, UNIT_PANELS * isa->vectors);
    u.columns = divide_up(vectors, u.column_units) * isa->lanes;
    u.column_units = divide_up(m->columns, u.columns);
    /* Rows are split to fit the cache, and further if there are too few units for all threads. */
    int64_t wanted = divide_up(3 * threads_count(), u.column_units);
    u.rows = divide_up(m->rows, wanted);
    if (threads_count() == 1 || u.column_units % threads_count() == 0 || u.rows < 32)
        u.rows = m->rows < 32 ? m->rows : u.rows < 32 ? 32 : m->rows;
    if (u.rows > UNIT_ROWS)
        u.rows = UNIT_ROWS;
    u.rows = divide_up(u.rows, isa->rows) * isa->rows;
    u.row_units = divide_up(m->rows, u.rows);
    return u;
}

/* Without memory yet. */
static struct job begin_job(const struct matmul *m)
{
    struct job j = {.m = m, .isa = cpu_isa(), .units = matmul_units(m, cpu_isa())};
    size_t block = (size_t)(j.units.channels * m->taps) * ISA_MAX_COLUMNS;
    j.per_worker = UNIT_PANELS * block + (m->weight_dtype == DTYPE_F32 ? 0 : block) +
                   (ISA_MAX_ROWS + UNIT_PANELS) * ISA_MAX_COLUMNS;
    return j;
}

static size_t job_bytes(const struct job *j)
{
    size_t floats = j->per_worker * (size_t)threads_count() + (size_t)j->units.channels;
    return floats * sizeof(float);
}

size_t matmul_bytes(const struct matmul *m)
{
    if (m->rows == 0 || m->columns == 0)
        return 0;
    if (m->dtype == DTYPE_BF16)
        return matmul_bf16_bytes(m);
    struct job j = begin_job(m);
    return job_bytes(&j);
}

void matmul(struct device *d, const struct matmul *m)
{
    if (m->rows == 0 || m->columns == 0)
        return;
    if (m->dtype == DTYPE_BF16) {
        matmul_bf16(d, m);
        return;
    }
    struct job j = begin_job(m);
    size_t zeros = (size_t)j.units.channels, granted;
    float *memory = device_allocate(d, job_bytes(&j), &granted);
    memset(memory, 0, zeros * sizeof(float));
    j.zeros = memory;
    j.scratch = memory + zeros;
    parallel_for(j.units.column_units * j.units.row_units, 1, run_units, &j);
    device_release(d, memory, granted);
}

#define OUTER_ROWS  64  /* of a unit */
#define OUTER_BLOCK 256 /* of k: both packed sides of a unit stay in the cache */
/* Floats of a worker: both packed sides, and sums of two panels. */
#define OUTER_SCRATCH                                                                              \
    ((OUTER_ROWS + ISA_MAX_ROWS + ISA_MAX_COLUMNS) * OUTER_BLOCK +                                 \
     UNIT_PANELS * (OUTER_ROWS + ISA_MAX_ROWS) * ISA_MAX_COLUMNS)

struct outer_job {
    const struct cpu_isa *isa;
    int64_t rows, columns, k, ldc;
    struct dense_rows a, b;
    float *c;
    int64_t unit_columns, column_units;
    float *scratch;
};

/* pack_rows for activations of either type, from row k0 and `column` on. */
static void pack_side(float *dst, int width, const struct dense_rows *side, int64_t k0,
                      int64_t column, int64_t count, int columns)
{
    int64_t at = k0 * side->ld + column;
    if (side->dtype == DTYPE_F32) {
        pack_rows(dst, width, (const float *)side->data + at, side->ld, count, columns);
        return;
    }
    for (int64_t i = 0; i < count; i++, dst += width) {
        cpu_isa()->widen(dst, side->dtype, (const uint16_t *)side->data + at + i * side->ld,
                         (size_t)columns);
        memset(dst + columns, 0, (size_t)(width - columns) * sizeof *dst);
    }
}

static void outer_unit(const struct outer_job *j, int64_t unit, float *scratch)
{
    const struct cpu_isa *isa = j->isa;
    int64_t n0 = unit % j->column_units * j->unit_columns;
    int64_t n1 = n0 + j->unit_columns < j->columns ? n0 + j->unit_columns : j->columns;
    int64_t m0 = unit / j->column_units * OUTER_ROWS;
    int rows = (int)(j->rows - m0 < OUTER_ROWS ? j->rows - m0 : OUTER_ROWS);
    int left_width = (rows + isa->rows - 1) / isa->rows * isa->rows;
    struct panel panels[UNIT_PANELS];
    int count = panels_cut(isa, n0, n1 - n0, panels, UNIT_PANELS);
    float *left = scratch, *right = left + (OUTER_ROWS + ISA_MAX_ROWS) * OUTER_BLOCK;
    float *sums = right + ISA_MAX_COLUMNS * OUTER_BLOCK;
    size_t panel_sums = (size_t)left_width * ISA_MAX_COLUMNS;
    for (int64_t k0 = 0; k0 < j->k; k0 += OUTER_BLOCK) {
        int64_t k = j->k - k0 < OUTER_BLOCK ? j->k - k0 : OUTER_BLOCK;
        pack_side(left, left_width, &j->a, k0, m0, k, rows);
        for (int p = 0; p < count; p++) {
            int width = panels[p].vectors * isa->lanes;
            pack_side(right, width, &j->b, k0, panels[p].column, k, panels[p].columns);
            for (int i = 0; i < rows; i += isa->rows)
                isa->tile_strided(panels[p].vectors, left + i, 1, left_width, k, right,
                                  sums + (size_t)p * panel_sums + (size_t)i * (size_t)width, width,
                                  k0 > 0);
        }
    }
    for (int p = 0; p < count; p++)
        for (int i = 0; i < rows; i++) {
            float *c = j->c + (m0 + i) * j->ldc + panels[p].column;
            isa->add(c, c,
                     sums + (size_t)p * panel_sums +
                         (size_t)i * (size_t)(panels[p].vectors * isa->lanes),
                     panels[p].columns);
        }
}

static void outer_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct outer_job *j = arg;
    for (int64_t unit = begin; unit < end; unit++)
        outer_unit(j, unit, j->scratch + (size_t)worker * OUTER_SCRATCH);
}

size_t matmul_outer_bytes(void)
{
    return (size_t)OUTER_SCRATCH * (size_t)threads_count() * sizeof(float);
}

void matmul_outer(struct device *d, int64_t rows, int64_t columns, int64_t k, struct dense_rows a,
                  struct dense_rows b, float *c, int64_t ldc)
{
    if (rows == 0 || columns == 0 || k == 0)
        return;
    const struct cpu_isa *isa = cpu_isa();
    struct outer_job j = {isa, rows, columns, k, ldc, a, b, c, 0, 0, NULL};
    int64_t vectors = divide_up(columns, isa->lanes);
    j.column_units = divide_up(vectors, UNIT_PANELS * isa->vectors);
    j.unit_columns = divide_up(vectors, j.column_units) * isa->lanes;
    j.column_units = divide_up(columns, j.unit_columns);
    size_t granted;
    j.scratch = device_allocate(d, matmul_outer_bytes(), &granted);
    parallel_for(j.column_units * divide_up(rows, OUTER_ROWS), 1, outer_units, &j);
    device_release(d, j.scratch, granted);
}
