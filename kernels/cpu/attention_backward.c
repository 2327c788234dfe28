#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

/* A unit is one head of one image; it holds the complete scores p and their gradients, [s, s].
 *   dv = p^T dy; dp = dy v^T; ds = softmax'(dp) / sqrt(d); dq = ds k; dk = ds^T q */
struct job {
    const struct attention_backward_args *a;
    const struct cpu_isa *isa;
    int64_t padded_rows;               /* s, rounded up to whole tiles */
    int64_t padded_keys, padded_width; /* s and d, rounded up to whole vectors */
    float *scratch;
    size_t per_worker;
};

struct buffers {
    float *right;  /* a packed right side */
    float *left;   /* rows of a left side, padded to whole tiles */
    float *p, *ds; /* [padded_rows][padded_keys] */
    float *result; /* [padded_rows][padded_width] */
    float *wide;   /* [s][d]: rows of BF16 as floats */
    struct panel *panels;
};

/* c[rows][padded columns] = a b, b packed in panels of k rows each. */
static void multiply(const struct job *j, const struct panel *panels, int count, const float *a,
                     int64_t a_row, int64_t a_step, int64_t k, const float *b, float *c,
                     int64_t ldc)
{
    for (int p = 0; p < count; p++)
        for (int64_t i = 0; i < j->padded_rows; i += j->isa->rows)
            j->isa->tile_strided(panels[p].vectors, a + i * a_row, a_row, a_step, k,
                                 b + panels[p].column * k, c + i * ldc + panels[p].column, ldc,
                                 false);
}

/* Rows of a head: element `at` is its first one. */
struct rows {
    const void *data;
    int64_t at, ld;
};

static const float *read_rows(const struct job *j, const struct buffers *b, struct rows r,
                              int64_t *ld)
{
    const struct attention_args *f = &j->a->forward;
    return rows_read(j->a->dy->dtype, r.data, r.at, r.ld, f->s, f->d, b->wide, ld);
}

static void write_rows(const struct job *j, struct rows to, const float *result)
{
    const struct attention_args *f = &j->a->forward;
    for (int64_t i = 0; i < f->s; i++, to.at += to.ld, result += j->padded_width)
        if (j->a->dy->dtype == DTYPE_F32)
            memcpy((float *)to.data + to.at, result, (size_t)f->d * sizeof *result);
        else
            j->isa->narrow((uint16_t *)to.data + to.at, result, (size_t)f->d);
}

static void copy_rows(float *dst, int64_t padded, const float *src, int64_t ld, int64_t rows,
                      int64_t width)
{
    for (int64_t i = 0; i < padded; i++)
        if (i < rows)
            memcpy(dst + i * width, src + i * ld, (size_t)width * sizeof *dst);
        else
            memset(dst + i * width, 0, (size_t)width * sizeof *dst);
}

/* out[rows][d] = left times the packed rows src[s][d]. left: element (i, k) by strides. */
static void times_rows(const struct job *j, const struct buffers *b, const float *left,
                       int64_t a_row, int64_t a_step, struct rows from, struct rows out)
{
    const struct attention_args *f = &j->a->forward;
    int64_t ld;
    const float *src = read_rows(j, b, from, &ld);
    int count = panels_cut(j->isa, 0, f->d, b->panels, (int)(j->padded_width / j->isa->lanes));
    for (int p = 0; p < count; p++)
        pack_rows(b->right + b->panels[p].column * f->s, b->panels[p].vectors * j->isa->lanes,
                  src + b->panels[p].column, ld, f->s, b->panels[p].columns);
    multiply(j, b->panels, count, left, a_row, a_step, f->s, b->right, b->result, j->padded_width);
    write_rows(j, out, b->result);
}

/* out[rows][s] = left rows times src[s][d] transposed. */
static void times_transposed(const struct job *j, const struct buffers *b, struct rows left,
                             struct rows right, float *out)
{
    const struct attention_args *f = &j->a->forward;
    int64_t ld;
    const float *src = read_rows(j, b, right, &ld);
    int count = panels_cut(j->isa, 0, f->s, b->panels, (int)(j->padded_keys / j->isa->lanes));
    for (int p = 0; p < count; p++)
        j->isa->pack(b->right + b->panels[p].column * f->d, b->panels[p].vectors * j->isa->lanes,
                     src + b->panels[p].column * ld, ld, b->panels[p].columns, f->d, 1);
    src = read_rows(j, b, left, &ld);
    copy_rows(b->left, j->padded_rows, src, ld, f->s, f->d);
    multiply(j, b->panels, count, b->left, f->d, 1, f->d, b->right, out, j->padded_keys);
}

static void run_head(const struct job *j, int64_t image, int64_t head, const struct buffers *b)
{
    const struct attention_args *f = &j->a->forward;
    int64_t s = f->s, d = f->d, ld_y = f->heads * d;
    struct rows q = {f->q, image * s * f->ld_q + head * d, f->ld_q};
    struct rows k = {f->k, image * s * f->ld_k + head * d, f->ld_k};
    struct rows v = {f->v, image * s * f->ld_v + head * d, f->ld_v};
    struct rows dq = {j->a->dq, q.at, q.ld}, dk = {j->a->dk, k.at, k.ld};
    struct rows dv = {j->a->dv, v.at, v.ld};
    struct rows dy = {j->a->dy->data, image * s * ld_y + head * d, ld_y};
    const int32_t *uniform = f->uniform ? (const int32_t *)f->uniform->data + image * s : NULL;
    float scale = 1.0f / sqrtf((float)d);

    times_transposed(j, b, q, k, b->p);
    times_transposed(j, b, dy, v, b->ds);
    for (int64_t i = 0; i < s; i++) {
        float *p = b->p + i * j->padded_keys, *ds = b->ds + i * j->padded_keys;
        if (uniform && uniform[i]) {
            for (int64_t m = 0; m < s; m++) {
                p[m] = 1.0f / (float)s;
                ds[m] = 0;
            }
        } else {
            j->isa->softmax(p, s, scale);
            j->isa->softmax_backward(ds, p, s, scale);
        }
    }
    /* The transposed products read padding rows, which must contribute nothing. */
    size_t rest = (size_t)((j->padded_rows - s) * j->padded_keys) * sizeof(float);
    memset(b->p + s * j->padded_keys, 0, rest);
    memset(b->ds + s * j->padded_keys, 0, rest);
    times_rows(j, b, b->p, 1, j->padded_keys, dy, dv);
    times_rows(j, b, b->ds, j->padded_keys, 1, k, dq);
    times_rows(j, b, b->ds, 1, j->padded_keys, q, dk);
}

static void run_heads(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct attention_args *f = &j->a->forward;
    float *scratch = j->scratch + (size_t)worker * j->per_worker;
    int64_t wide = j->padded_keys > j->padded_width ? j->padded_keys : j->padded_width;
    struct buffers b = {.right = scratch};
    b.left = b.right + wide * (f->s > f->d ? f->s : f->d);
    b.p = b.left + j->padded_rows * f->d;
    b.ds = b.p + j->padded_rows * j->padded_keys;
    b.result = b.ds + j->padded_rows * j->padded_keys;
    b.panels = (struct panel *)(b.result + j->padded_rows * j->padded_width);
    b.wide = (float *)(b.panels + wide / j->isa->lanes);
    for (int64_t unit = begin; unit < end; unit++)
        run_head(j, unit / f->heads, unit % f->heads, &b);
}

void cpu_attention_backward(struct device *d, const struct attention_backward_args *a)
{
    const struct attention_args *f = &a->forward;
    struct job j = {.a = a, .isa = cpu_isa()};
    if (f->n * f->s * f->heads * f->d == 0)
        return;
    if (cpu_attention_is_bf16(f, a->dy->dtype)) {
        cpu_attention_backward_bf16(d, a);
        return;
    }
    j.padded_keys = round_up(f->s, j.isa->lanes);
    /* Left sides are also read by columns, so rows are padded as columns are, to whole tiles. */
    j.padded_rows = round_up(f->s, j.isa->rows);
    if (j.padded_rows > j.padded_keys)
        j.padded_keys = round_up(j.padded_rows, j.isa->lanes);
    j.padded_width = round_up(f->d, j.isa->lanes);
    int64_t wide = j.padded_keys > j.padded_width ? j.padded_keys : j.padded_width;
    j.per_worker = (size_t)(wide * (f->s > f->d ? f->s : f->d) + j.padded_rows * f->d +
                            2 * j.padded_rows * j.padded_keys + j.padded_rows * j.padded_width) +
                   (size_t)(wide / j.isa->lanes) * sizeof(struct panel) / sizeof(float) +
                   (a->dy->dtype == DTYPE_F32 ? 0 : (size_t)(f->s * f->d));
    j.per_worker = (size_t)round_up((int64_t)j.per_worker, 16);
    size_t granted;
    j.scratch =
        device_allocate(d, j.per_worker * (size_t)threads_count() * sizeof(float), &granted);
    parallel_for(f->n * f->heads, 1, run_heads, &j);
    device_release(d, j.scratch, granted);
}
