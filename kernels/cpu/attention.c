#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/rows.h"

#include <math.h>

/* Keys and values of a head are packed once per unit; then scores are computed a few rows at a
 * time, and stay in the cache. */
#define UNIT_ROWS 256

struct job {
    const struct attention_args *a;
    const struct cpu_isa *isa;
    int64_t row_units;
    int64_t padded_keys, padded_width; /* whole panels */
    int64_t wide;                      /* floats of buffers' wide */
    float *scratch;
    size_t per_worker;
};

struct buffers {
    float *keys, *values, *scores, *edge;
    float *wide; /* rows of BF16 as floats: queries [ISA_MAX_ROWS][d], or keys or values [s][d] */
    struct panel *key_panels, *value_panels;
    int key_count, value_count;
};

static void attend_rows(const struct job *j, const struct buffers *b, int64_t image, int64_t head,
                        int64_t first, int rows)
{
    const struct attention_args *a = j->a;
    const struct cpu_isa *isa = j->isa;
    int lanes = isa->lanes;
    const float none[ISA_MAX_COLUMNS] = {0};
    const float *left[ISA_MAX_ROWS];
    int64_t ld;
    const float *q = rows_read(a->y->dtype, a->q, (image * a->s + first) * a->ld_q + head * a->d,
                               a->ld_q, rows, a->d, b->wide, &ld);
    for (int i = 0; i < isa->rows; i++)
        left[i] = q + (i < rows ? i : rows - 1) * ld;
    for (int p = 0; p < b->key_count; p++)
        isa->tile(b->key_panels[p].vectors, 1, left, a->d, b->keys + b->key_panels[p].column * a->d,
                  b->scores + b->key_panels[p].column, j->padded_keys, none);
    const int32_t *uniform =
        a->uniform ? (const int32_t *)a->uniform->data + image * a->s + first : NULL;
    for (int i = 0; i < rows; i++) {
        float *score = b->scores + i * j->padded_keys;
        if (uniform && uniform[i])
            for (int64_t m = 0; m < a->s; m++)
                score[m] = 1.0f / (float)a->s;
        else
            isa->softmax(score, a->s, 1.0f / sqrtf((float)a->d));
    }
    for (int i = 0; i < isa->rows; i++)
        left[i] = b->scores + (i < rows ? i : rows - 1) * j->padded_keys;
    for (int p = 0; p < b->value_count; p++) {
        const struct panel *panel = &b->value_panels[p];
        int width = panel->vectors * lanes;
        isa->tile(panel->vectors, 1, left, a->s, b->values + panel->column * a->s, b->edge, width,
                  none);
        for (int i = 0; i < rows; i++) {
            int64_t at = (image * a->s + first + i) * a->heads * a->d + head * a->d + panel->column;
            if (a->y->dtype == DTYPE_F32)
                memcpy((float *)a->y->data + at, b->edge + i * width,
                       (size_t)panel->columns * sizeof(float));
            else
                row_written(a->y, at, panel->columns, b->edge + i * width);
        }
    }
}

static void pack_head(const struct job *j, const struct buffers *b, int64_t image, int64_t head)
{
    const struct attention_args *a = j->a;
    const struct cpu_isa *isa = j->isa;
    int64_t ld;
    const float *k = rows_read(a->y->dtype, a->k, image * a->s * a->ld_k + head * a->d, a->ld_k,
                               a->s, a->d, b->wide, &ld);
    for (int i = 0; i < b->key_count; i++) {
        const struct panel *p = &b->key_panels[i];
        isa->pack(b->keys + p->column * a->d, p->vectors * isa->lanes, k + p->column * ld, ld,
                  p->columns, a->d, 1);
    }
    const float *v = rows_read(a->y->dtype, a->v, image * a->s * a->ld_v + head * a->d, a->ld_v,
                               a->s, a->d, b->wide, &ld);
    for (int i = 0; i < b->value_count; i++) {
        const struct panel *p = &b->value_panels[i];
        pack_rows(b->values + p->column * a->s, p->vectors * isa->lanes, v + p->column, ld, a->s,
                  p->columns);
    }
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct attention_args *a = j->a;
    const struct cpu_isa *isa = j->isa;
    float *scratch = j->scratch + (size_t)worker * j->per_worker;
    struct buffers b = {.keys = scratch};
    b.values = b.keys + j->padded_keys * a->d;
    b.scores = b.values + j->padded_width * a->s;
    b.edge = b.scores + ISA_MAX_ROWS * j->padded_keys;
    b.wide = b.edge + ISA_MAX_ROWS * ISA_MAX_COLUMNS;
    b.key_panels = (struct panel *)(b.wide + j->wide);
    b.value_panels = b.key_panels + j->padded_keys / isa->lanes;
    b.key_count = panels_cut(isa, 0, a->s, b.key_panels, (int)(j->padded_keys / isa->lanes));
    b.value_count = panels_cut(isa, 0, a->d, b.value_panels, (int)(j->padded_width / isa->lanes));
    int64_t packed = -1;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t which = unit / j->row_units, image = which / a->heads, head = which % a->heads;
        if (which != packed) {
            pack_head(j, &b, image, head);
            packed = which;
        }
        int64_t row = unit % j->row_units * UNIT_ROWS;
        int64_t last = row + UNIT_ROWS < a->s ? row + UNIT_ROWS : a->s;
        for (; row < last; row += isa->rows)
            attend_rows(j, &b, image, head, row,
                        (int)(last - row < isa->rows ? last - row : isa->rows));
    }
}

void cpu_attention(struct device *d, const struct attention_args *a)
{
    struct job j = {.a = a, .isa = cpu_isa()};
    if (a->n * a->s * a->heads * a->d == 0)
        return;
    int lanes = j.isa->lanes;
    j.row_units = (a->s + UNIT_ROWS - 1) / UNIT_ROWS;
    j.padded_keys = (a->s + lanes - 1) / lanes * lanes;
    j.padded_width = (a->d + lanes - 1) / lanes * lanes;
    size_t panels = (size_t)((j.padded_keys + j.padded_width) / lanes) * sizeof(struct panel);
    if (a->y->dtype != DTYPE_F32)
        j.wide = ((a->s > ISA_MAX_ROWS ? a->s : ISA_MAX_ROWS) * a->d + 1) / 2 * 2;
    j.per_worker =
        (size_t)(j.padded_keys * a->d + j.padded_width * a->s + ISA_MAX_ROWS * j.padded_keys +
                 ISA_MAX_ROWS * ISA_MAX_COLUMNS + j.wide) +
        panels / sizeof(float);
    j.per_worker = (j.per_worker + 15) / 16 * 16;
    size_t granted;
    j.scratch =
        device_allocate(d, j.per_worker * (size_t)threads_count() * sizeof(float), &granted);
    parallel_for(a->n * a->heads * j.row_units, 1, run_units, &j);
    device_release(d, j.scratch, granted);
}
