#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu.h"

/* A unit is one head of one image. Its queries are taken in blocks, whose scores p and their
 * gradients stay in the cache: both are computed in F32 and rounded where they are multiplied.
 *   dv += p^T dy; dp = dy v^T; ds = softmax'(dp) / sqrt(d); dq = ds k; dk += ds^T q */

#define BLOCK_ROWS 96 /* of queries, at most */

struct job {
    const struct attention_backward_args *a;
    const struct cpu_isa *isa;
    const struct cpu_bf16 *bf16;
    int64_t block;                 /* queries of a block, whole tiles: an even number */
    int64_t keys, key_rows, width; /* s, s and d, in whole vectors, tiles and vectors */
    int64_t steps, pairs;          /* s, even, and block / 2, in vectors */
    char *scratch;
    size_t per_worker;
};

struct buffers {
    uint16_t *keys, *values; /* packed by elements */
    uint16_t *key_pairs;     /* packed by rows, as are those of a block */
    uint16_t *query_pairs, *dy_pairs;
    float *p, *ds;                  /* [block][keys] */
    uint16_t *p16, *ds16;           /* [block][steps] */
    uint16_t *half_turned, *turned; /* [block / 2][ISA_PAIRED_COLUMNS][2]; [keys][pairs][2] */
    float *dq, *dk, *dv;            /* [block][width], [key_rows][width] */
    const void **found;
    struct panel *key_panels, *width_panels;
    int key_count, width_count;
};

/* A head's rows, ld apart. */
struct rows {
    const uint16_t *data;
    int64_t ld;
};

static void *take(char *memory, size_t *used, int64_t count, size_t size)
{
    return take_scratch(memory, used, (size_t)count * size);
}

/* Lays buffers out in memory, which may be NULL; returns their bytes. */
static size_t lay_out(struct buffers *b, const struct job *j, char *memory)
{
    const struct attention_args *f = &j->a->forward;
    size_t used = 0, half = sizeof(uint16_t);
    b->keys = take(memory, &used, j->keys * f->d, half);
    b->values = take(memory, &used, j->keys * f->d, half);
    b->key_pairs = take(memory, &used, j->steps * j->width, half);
    b->query_pairs = take(memory, &used, j->block * j->width, half);
    b->dy_pairs = take(memory, &used, j->block * j->width, half);
    b->p = take(memory, &used, j->block * j->keys, sizeof(float));
    b->ds = take(memory, &used, j->block * j->keys, sizeof(float));
    b->p16 = take(memory, &used, j->block * j->steps, half);
    b->ds16 = take(memory, &used, j->block * j->steps, half);
    b->half_turned = take(memory, &used, j->block * ISA_PAIRED_COLUMNS, half);
    b->turned = take(memory, &used, round_up(f->s, ISA_PAIRED_COLUMNS) * j->pairs * 2, half);
    b->dq = take(memory, &used, j->block * j->width, sizeof(float));
    b->dk = take(memory, &used, j->key_rows * j->width, sizeof(float));
    b->dv = take(memory, &used, j->key_rows * j->width, sizeof(float));
    b->found = take(memory, &used, j->steps > j->block ? j->steps : j->block, sizeof *b->found);
    b->key_panels = take(memory, &used, j->keys / j->isa->lanes, sizeof *b->key_panels);
    b->width_panels = take(memory, &used, j->width / j->isa->lanes, sizeof *b->width_panels);
    return used;
}

/* c[block][..] = left[block][k] times a packed right side, or is added to. */
static void multiply(const struct job *j, const struct panel *panels, int count,
                     const uint16_t *left, int64_t ld, int64_t rows, int64_t k,
                     const uint16_t *right, float *c, int64_t ldc, bool adds)
{
    const float none[ISA_MAX_COLUMNS] = {0};
    for (int p = 0; p < count; p++)
        for (int64_t i = 0; i < rows; i += j->isa->rows) {
            const uint16_t *a[ISA_MAX_ROWS];
            for (int r = 0; r < j->isa->rows; r++)
                a[r] = left + (i + r < rows ? i + r : rows - 1) * ld;
            j->bf16->tile(panels[p].vectors, 1, a, k, right + panels[p].column * k,
                          c + i * ldc + panels[p].column, ldc, adds ? NULL : none);
        }
}

/* turned[m][i] = x[i][m] for the rows of a block, an even number with zeros after an odd one. */
static void turn(const struct job *j, const struct buffers *b, const uint16_t *x, int64_t rows)
{
    int64_t s = j->a->forward.s;
    for (int64_t i = 0; i < rows; i++)
        b->found[i] = x + i * j->steps;
    for (int64_t m = 0; m < s; m += ISA_PAIRED_COLUMNS) {
        int columns = (int)least(s - m, ISA_PAIRED_COLUMNS);
        int width = (int)round_up(columns, j->isa->lanes);
        j->bf16->pair_rows(b->half_turned, b->found, rows, m, columns, width);
        j->isa->pack((float *)(b->turned + m * j->pairs * 2), (int)j->pairs,
                     (const float *)b->half_turned, width, (int)((rows + 1) / 2), columns, 1);
    }
}

static void softmax_rows(const struct job *j, const struct buffers *b, const int32_t *uniform,
                         int64_t rows)
{
    int64_t s = j->a->forward.s;
    float scale = 1.0f / sqrtf((float)j->a->forward.d);
    for (int64_t i = 0; i < rows; i++) {
        float *p = b->p + i * j->keys, *ds = b->ds + i * j->keys;
        if (uniform && uniform[i]) {
            for (int64_t m = 0; m < s; m++)
                p[m] = 1.0f / (float)s;
            memset(ds, 0, (size_t)s * sizeof *ds);
        } else {
            j->isa->softmax(p, s, scale);
            j->isa->softmax_backward(ds, p, s, scale);
        }
        b->p16[(i + 1) * j->steps - 1] = b->ds16[(i + 1) * j->steps - 1] = 0; /* if s is odd */
        j->bf16->narrow(b->p16 + i * j->steps, p, s, 1);
        j->bf16->narrow(b->ds16 + i * j->steps, ds, s, 1);
    }
}

static void write_rows(const struct job *j, void *to, int64_t at, int64_t ld, const float *from,
                       int64_t rows)
{
    for (int64_t i = 0; i < rows; i++)
        j->bf16->narrow((uint16_t *)to + at + i * ld, from + i * j->width, j->a->forward.d, 1);
}

/* Queries and gradients from row `first` of the head on. */
static void run_block(const struct job *j, const struct buffers *b, struct rows q, struct rows dy,
                      const int32_t *uniform, int64_t rows, bool first)
{
    const struct attention_args *f = &j->a->forward;
    int64_t even = (rows + 1) / 2 * 2, ld = j->pairs * 2;
    multiply(j, b->key_panels, b->key_count, q.data, q.ld, rows, f->d, b->keys, b->p, j->keys,
             false);
    multiply(j, b->key_panels, b->key_count, dy.data, dy.ld, rows, f->d, b->values, b->ds, j->keys,
             false);
    softmax_rows(j, b, uniform, rows);
    multiply(j, b->width_panels, b->width_count, b->ds16, j->steps, rows, j->steps, b->key_pairs,
             b->dq, j->width, false);
    pack_pairs(j->isa, j->bf16, b->dy_pairs, dy.data, dy.ld, rows, b->found, b->width_panels,
               b->width_count);
    turn(j, b, b->p16, rows);
    multiply(j, b->width_panels, b->width_count, b->turned, ld, f->s, even, b->dy_pairs, b->dv,
             j->width, !first);
    pack_pairs(j->isa, j->bf16, b->query_pairs, q.data, q.ld, rows, b->found, b->width_panels,
               b->width_count);
    turn(j, b, b->ds16, rows);
    multiply(j, b->width_panels, b->width_count, b->turned, ld, f->s, even, b->query_pairs, b->dk,
             j->width, !first);
}

static void run_head(const struct job *j, int64_t image, int64_t head, const struct buffers *b)
{
    const struct attention_args *f = &j->a->forward;
    int64_t s = f->s, d = f->d, ld_y = f->heads * d;
    int64_t q = image * s * f->ld_q + head * d, k = image * s * f->ld_k + head * d;
    int64_t v = image * s * f->ld_v + head * d, y = image * s * ld_y + head * d;
    const uint16_t *keys = (const uint16_t *)f->k + k;
    pack_elements(j->isa, b->keys, keys, f->ld_k, d, b->key_panels, b->key_count);
    pack_elements(j->isa, b->values, (const uint16_t *)f->v + v, f->ld_v, d, b->key_panels,
                  b->key_count);
    pack_pairs(j->isa, j->bf16, b->key_pairs, keys, f->ld_k, s, b->found, b->width_panels,
               b->width_count);
    for (int64_t first = 0; first < s; first += j->block) {
        int64_t rows = least(s - first, j->block);
        const int32_t *uniform =
            f->uniform ? (const int32_t *)f->uniform->data + image * s + first : NULL;
        struct rows queries = {(const uint16_t *)f->q + q + first * f->ld_q, f->ld_q};
        struct rows dy = {(const uint16_t *)j->a->dy->data + y + first * ld_y, ld_y};
        run_block(j, b, queries, dy, uniform, rows, first == 0);
        write_rows(j, j->a->dq, q + first * f->ld_q, f->ld_q, b->dq, rows);
    }
    write_rows(j, j->a->dk, k, f->ld_k, b->dk, s);
    write_rows(j, j->a->dv, v, f->ld_v, b->dv, s);
}

static void run_heads(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct attention_args *f = &j->a->forward;
    struct buffers b;
    lay_out(&b, j, j->scratch + (size_t)worker * j->per_worker);
    b.key_count = panels_cut(j->isa, 0, f->s, b.key_panels, (int)(j->keys / j->isa->lanes));
    b.width_count = panels_cut(j->isa, 0, f->d, b.width_panels, (int)(j->width / j->isa->lanes));
    for (int64_t unit = begin; unit < end; unit++)
        run_head(j, unit / f->heads, unit % f->heads, &b);
}

static void plan(struct job *j, const struct attention_backward_args *a)
{
    const struct attention_args *f = &a->forward;
    *j = (struct job){.a = a, .isa = cpu_isa(), .bf16 = cpu_bf16()};
    j->block = round_up(divide_up(f->s, divide_up(f->s, BLOCK_ROWS)), j->isa->rows);
    j->keys = round_up(f->s, j->isa->lanes);
    j->key_rows = round_up(f->s, j->isa->rows);
    j->width = round_up(f->d, j->isa->lanes);
    j->steps = round_up(f->s, 2);
    j->pairs = round_up(j->block / 2, j->isa->lanes);
    struct buffers b;
    j->per_worker = lay_out(&b, j, NULL);
}

size_t cpu_attention_backward_bf16_bytes(const struct attention_args *a)
{
    struct job j;
    plan(&j, &(struct attention_backward_args){.forward = *a});
    return j.per_worker * (size_t)threads_count();
}

void cpu_attention_backward_bf16(struct device *d, const struct attention_backward_args *a)
{
    const struct attention_args *f = &a->forward;
    struct job j;
    plan(&j, a);
    size_t granted;
    j.scratch = device_allocate(d, j.per_worker * (size_t)threads_count(), &granted);
    parallel_for(f->n * f->heads, 1, run_heads, &j);
    device_release(d, j.scratch, granted);
}
