#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#include <math.h>

/* Keys and values of a head are packed once per unit; then scores are computed a few rows at a
 * time, and stay in the cache. Where the processor multiplies BF16, the exponentials of scores are
 * rounded, and what they weigh is divided by the sum of what is left of them. */
#define UNIT_ROWS 256
/* The widest heads whose products are of BF16. The autoencoder's are wider, take little of its
 * time, and its gradients feel the rounding. */
#define WIDTH_BF16 64

struct job {
    const struct attention_args *a;
    const struct cpu_isa *isa;
    const struct cpu_bf16 *bf16; /* NULL: products of F32 */
    int64_t row_units;
    int64_t padded_keys, padded_width; /* whole panels */
    int64_t steps;                     /* s, made even for pairs */
    int64_t wide;                      /* floats of buffers' wide */
    float *scratch;
    size_t per_worker;
};

struct buffers {
    void *keys, *values;            /* BF16 in pairs, or floats */
    float *scores, *edge, *inverse; /* inverse: of the sums of exponentials, [ISA_MAX_ROWS] */
    union {
        /* Rows of BF16 as floats: queries [ISA_MAX_ROWS][d], or keys or values [s][d]. */
        float *wide;
        uint16_t *exponentials; /* [ISA_MAX_ROWS][steps] */
        const void **rows;      /* [s] */
    };
    struct panel *key_panels, *value_panels;
    int key_count, value_count;
};

/* left[i] = row i of a tile, `ld` elements apart, of which `rows` exist. */
#define FIND_ROWS(left, first, ld, rows)                                                           \
    for (int i = 0; i < j->isa->rows; i++)                                                         \
        (left)[i] = (first) + (i < (rows) ? i : (rows)-1) * (ld);

static void score_rows(const struct job *j, const struct buffers *b, int64_t image, int64_t head,
                       int64_t first, int rows)
{
    const struct attention_args *a = j->a;
    const float none[ISA_MAX_COLUMNS] = {0};
    int64_t at = (image * a->s + first) * a->ld_q + head * a->d, ld = a->ld_q;
    const uint16_t *pairs[ISA_MAX_ROWS];
    const float *left[ISA_MAX_ROWS];
    if (j->bf16) {
        FIND_ROWS(pairs, (const uint16_t *)a->q + at, ld, rows)
    } else {
        const float *q = rows_read(a->y->dtype, a->q, at, ld, rows, a->d, b->wide, &ld);
        FIND_ROWS(left, q, ld, rows)
    }
    for (int p = 0; p < b->key_count; p++) {
        const struct panel *panel = &b->key_panels[p];
        float *scores = b->scores + panel->column;
        if (j->bf16)
            j->bf16->tile(panel->vectors, 1, pairs, a->d,
                          (uint16_t *)b->keys + panel->column * a->d, scores, j->padded_keys, none);
        else
            j->isa->tile(panel->vectors, 1, left, a->d, (float *)b->keys + panel->column * a->d,
                         scores, j->padded_keys, none);
    }
}

static void softmax_row(const struct job *j, float *score, bool uniform)
{
    if (!uniform)
        j->isa->softmax(score, j->a->s, 1.0f / sqrtf((float)j->a->d));
    else
        for (int64_t m = 0; m < j->a->s; m++)
            score[m] = 1.0f / (float)j->a->s;
}

/* Returns their sum. */
static float exponentials(const struct job *j, uint16_t *dst, const float *score, bool uniform)
{
    int64_t s = j->a->s;
    dst[j->steps - 1] = 0; /* if s is odd */
    if (!uniform)
        return j->bf16->exponentials(dst, score, s, 1.0f / sqrtf((float)j->a->d));
    for (int64_t m = 0; m < s; m++)
        dst[m] = 0x3f80; /* 1 */
    return (float)s;
}

static void softmax_rows(const struct job *j, const struct buffers *b, int64_t image, int64_t first,
                         int rows)
{
    const struct tensor *uniform = j->a->uniform;
    for (int i = 0; i < rows; i++) {
        bool all = uniform && ((const int32_t *)uniform->data)[image * j->a->s + first + i];
        float *score = b->scores + i * j->padded_keys;
        if (j->bf16)
            b->inverse[i] = 1.0f / exponentials(j, b->exponentials + i * j->steps, score, all);
        else
            softmax_row(j, score, all);
    }
}

/* The values weighed by probabilities. */
static void weigh_rows(const struct job *j, const struct buffers *b, int64_t image, int64_t head,
                       int64_t first, int rows)
{
    const struct attention_args *a = j->a;
    const float none[ISA_MAX_COLUMNS] = {0};
    const uint16_t *pairs[ISA_MAX_ROWS];
    const float *left[ISA_MAX_ROWS];
    FIND_ROWS(pairs, b->exponentials, j->steps, rows)
    FIND_ROWS(left, b->scores, j->padded_keys, rows)
    for (int p = 0; p < b->value_count; p++) {
        const struct panel *panel = &b->value_panels[p];
        int width = panel->vectors * j->isa->lanes;
        int64_t offset = panel->column * j->steps;
        if (j->bf16)
            j->bf16->tile(panel->vectors, 1, pairs, j->steps, (uint16_t *)b->values + offset,
                          b->edge, width, none);
        else
            j->isa->tile(panel->vectors, 1, left, a->s, (float *)b->values + offset, b->edge, width,
                         none);
        for (int i = 0; i < rows; i++) {
            int64_t at = (image * a->s + first + i) * a->heads * a->d + head * a->d + panel->column;
            if (j->bf16)
                j->bf16->narrow((uint16_t *)a->y->data + at, b->edge + i * width, panel->columns,
                                b->inverse[i]);
            else if (a->y->dtype == DTYPE_F32)
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
    if (j->bf16) {
        pack_elements(isa, b->keys, (const uint16_t *)a->k + image * a->s * a->ld_k + head * a->d,
                      a->ld_k, a->d, b->key_panels, b->key_count);
        pack_pairs(isa, j->bf16, b->values,
                   (const uint16_t *)a->v + image * a->s * a->ld_v + head * a->d, a->ld_v, a->s,
                   b->rows, b->value_panels, b->value_count);
        return;
    }
    const float *k = rows_read(a->y->dtype, a->k, image * a->s * a->ld_k + head * a->d, a->ld_k,
                               a->s, a->d, b->wide, &ld);
    for (int i = 0; i < b->key_count; i++) {
        const struct panel *p = &b->key_panels[i];
        isa->pack((float *)b->keys + p->column * a->d, p->vectors * isa->lanes, k + p->column * ld,
                  ld, p->columns, a->d, 1);
    }
    const float *v = rows_read(a->y->dtype, a->v, image * a->s * a->ld_v + head * a->d, a->ld_v,
                               a->s, a->d, b->wide, &ld);
    for (int i = 0; i < b->value_count; i++) {
        const struct panel *p = &b->value_panels[i];
        pack_rows((float *)b->values + p->column * a->s, p->vectors * isa->lanes, v + p->column, ld,
                  a->s, p->columns);
    }
}

static void run_units(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct attention_args *a = j->a;
    const struct cpu_isa *isa = j->isa;
    float *scratch = j->scratch + (size_t)worker * j->per_worker;
    float inverse[ISA_MAX_ROWS];
    struct buffers b = {.keys = scratch, .inverse = inverse};
    b.values = scratch + j->padded_keys * a->d;
    b.scores = (float *)b.values + j->padded_width * j->steps;
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
        for (; row < last; row += isa->rows) {
            int rows = (int)(last - row < isa->rows ? last - row : isa->rows);
            score_rows(j, &b, image, head, row, rows);
            softmax_rows(j, &b, image, row, rows);
            weigh_rows(j, &b, image, head, row, rows);
        }
    }
}

bool cpu_attention_is_bf16(const struct attention_args *a, enum dtype dtype)
{
    bool pairs = a->d % 2 == 0 && a->ld_q % 2 == 0 && a->ld_k % 2 == 0 && a->ld_v % 2 == 0;
    return dtype == DTYPE_BF16 && a->d <= WIDTH_BF16 && pairs && cpu_bf16();
}

void cpu_attention(struct device *d, const struct attention_args *a)
{
    struct job j = {.a = a, .isa = cpu_isa()};
    if (a->n * a->s * a->heads * a->d == 0)
        return;
    j.bf16 = cpu_attention_is_bf16(a, a->y->dtype) ? cpu_bf16() : NULL;
    j.steps = j.bf16 ? (a->s + 1) / 2 * 2 : a->s;
    int lanes = j.isa->lanes;
    j.row_units = (a->s + UNIT_ROWS - 1) / UNIT_ROWS;
    j.padded_keys = (a->s + lanes - 1) / lanes * lanes;
    j.padded_width = (a->d + lanes - 1) / lanes * lanes;
    size_t panels = (size_t)((j.padded_keys + j.padded_width) / lanes) * sizeof(struct panel);
    if (j.bf16) /* of exponentials, or of pointers */
        j.wide = ISA_MAX_ROWS * j.steps / 2;
    else if (a->y->dtype != DTYPE_F32)
        j.wide = ((a->s > ISA_MAX_ROWS ? a->s : ISA_MAX_ROWS) * a->d + 1) / 2 * 2;
    j.per_worker =
        (size_t)(j.padded_keys * a->d + j.padded_width * j.steps + ISA_MAX_ROWS * j.padded_keys +
                 ISA_MAX_ROWS * ISA_MAX_COLUMNS + j.wide) +
        panels / sizeof(float);
    j.per_worker = (j.per_worker + 15) / 16 * 16;
    size_t granted;
    j.scratch =
        device_allocate(d, j.per_worker * (size_t)threads_count() * sizeof(float), &granted);
    parallel_for(a->n * a->heads * j.row_units, 1, run_units, &j);
    device_release(d, j.scratch, granted);
}
