#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/text.h"
#include "common/base/threads.h"
#include "common/train/parameters_internal.h"

/* The number of inputs per output of the tensor's module, for a bias its weight's; 0: a norm. */
static int64_t fan_in(const struct parameters *p, const struct parameter *t)
{
    if (t->ndim == 1 && has_suffix(t->name, ".bias")) {
        char *name = xasprintf("%.*sweight", (int)(strlen(t->name) - strlen("bias")), t->name);
        const struct parameter *weight = parameters_find(p, name);
        free(name);
        CHECK(weight);
        t = weight;
    }
    return t->ndim == 1 ? 0 : t->count / t->shape[0];
}

static uint64_t fnv1a(const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        h = (h ^ *c) * UINT64_C(0x100000001b3);
    return h;
}

#define DRAW_AT_ONCE (1 << 16) /* elements of a piece of work */
#define PIECES       1024      /* drawn together, at most ... */
#define ROOM         (1 << 23) /* ... and their elements */
/* Standard deviation of a standard normal truncated to [-2, 2]. */
#define TRUNCATED_NORMAL_DEVIATION 0.87962566103423978

/* Standard deviation, before truncation, of a CLOOB tensor's initial values, as in haiku's modules;
 * 0: a constant. */
static double cloob_deviation(const struct parameter *t)
{
    if (has_suffix(t->name, "class_embed") || has_suffix(t->name, "encoder.embed.weight"))
        return 1 / sqrt((double)t->shape[t->ndim == 4 ? 0 : t->ndim - 1]);
    if (has_suffix(t->name, "pos_embed.weight"))
        return 1 / sqrt((double)t->shape[1]);
    if (!parameter_is_tower_matrix(t))
        return 0;
    double of_truncated = strstr(t->name, ".attn.") ? TRUNCATED_NORMAL_DEVIATION : 1;
    return 1 / (of_truncated * sqrt((double)t->shape[1]));
}

/* Draws n standard normals truncated to [-2, 2], for elements `at` and following of a tensor. A
 * value outside is replaced with the element's value in the next stream. */
static void draw_truncated_normals(float *out, int64_t n, uint64_t seed, uint64_t tensor,
                                   int64_t at)
{
    float *draw = xmalloc((size_t)n * sizeof *draw);
    for (int64_t i = 0; i < n; i++)
        out[i] = INFINITY;
    int64_t left = n;
    for (uint32_t stream = 0; left > 0; stream++) {
        rng_normal(draw, (size_t)n, seed, RNG_INITIAL_WEIGHTS, stream, tensor, (uint64_t)at);
        for (int64_t i = 0; i < n; i++)
            if (out[i] == INFINITY && fabsf(draw[i]) <= 2) {
                out[i] = draw[i];
                left--;
            }
    }
    free(draw);
}

static void draw_cloob(float *out, int64_t n, const struct parameter *t, uint64_t seed, int64_t at)
{
    float deviation = (float)cloob_deviation(t);
    if (deviation > 0)
        draw_truncated_normals(out, n, seed, fnv1a(t->name), at);
    for (int64_t i = 0; i < n; i++)
        out[i] = deviation > 0 ? deviation * out[i] : !has_suffix(t->name, ".bias");
}

/* Standard deviation of a discriminator's initial kernels, around 0, and norms, around 1. */
#define DISCRIMINATOR_DEVIATION 0.02f

static bool is_discriminator_normal(const struct parameters *p, const struct parameter *t)
{
    return p->net == NET_DISCRIMINATOR && has_suffix(t->name, ".weight");
}

static void draw_discriminator(float *out, int64_t n, const struct parameter *t, uint64_t seed,
                               int64_t at)
{
    rng_normal(out, (size_t)n, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name), (uint64_t)at);
    for (int64_t i = 0; i < n; i++)
        out[i] = DISCRIMINATOR_DEVIATION * out[i] + (t->ndim == 1);
}

/* The others': uniform, as torch's modules, or for what is fixed in a U-Net standard normals. */
static void draw_uniform(float *out, int64_t n, const struct parameters *p,
                         const struct parameter *t, uint64_t seed, int64_t at)
{
    float gain = p->net == NET_UNET && t->trained ? sqrtf(0.5f) : 1;
    int64_t inputs = fan_in(p, t);
    float bound = inputs ? gain / sqrtf((float)inputs) : 0;
    if (!t->trained)
        rng_normal(out, (size_t)n, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name), (uint64_t)at);
    else if (inputs)
        rng_uniform(out, (size_t)n, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name), (uint64_t)at);
    for (int64_t i = 0; t->trained && i < n; i++)
        out[i] = inputs ? (2 * out[i] - 1) * bound : has_suffix(t->name, ".bias") ? 0 : gain;
}

/* Elements at .. at + n of a tensor, and where they are drawn. */
struct piece {
    const struct parameter *tensor;
    int64_t at, n;
    float *out;
};

struct initialization {
    struct parameters *parameters;
    uint64_t seed;
    struct piece pieces[PIECES];
    int count;
    float *values; /* of the pieces, one after another */
    int64_t drawn, room;
};

static void write_piece(const struct initialization *job, const struct piece *x)
{
    parameters_write(job->parameters, ARRAY_WEIGHTS, x->tensor->offset + x->at, x->n, x->out);
}

static void draw_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct initialization *job = arg;
    const struct parameters *p = job->parameters;
    for (int64_t i = begin; i < end; i++) {
        const struct piece *x = &job->pieces[i];
        if (is_discriminator_normal(p, x->tensor))
            draw_discriminator(x->out, x->n, x->tensor, job->seed, x->at);
        else if (p->net == NET_CLOOB)
            draw_cloob(x->out, x->n, x->tensor, job->seed, x->at);
        else
            draw_uniform(x->out, x->n, p, x->tensor, job->seed, x->at);
        if (p->device->host_memory)
            write_piece(job, x);
    }
}

/* All threads draw; to a GPU only one may write. */
static void draw_pieces(struct initialization *job)
{
    parallel_for(job->count, 1, draw_some, job);
    for (int i = 0; i < job->count && !job->parameters->device->host_memory; i++)
        write_piece(job, &job->pieces[i]);
    job->count = 0;
    job->drawn = 0;
}

void parameters_initialize(struct parameters *p, uint64_t seed)
{
    struct initialization job = {.parameters = p, .seed = seed};
    for (int k = 0; k < p->count && job.room < ROOM; k++)
        job.room += p->tensors[k].count;
    job.room = job.room < ROOM ? job.room : ROOM;
    job.values = xmalloc((size_t)job.room * sizeof *job.values + 1);
    for (int k = 0; k < p->count; k++) {
        const struct parameter *t = &p->tensors[k];
        for (int64_t at = 0; at < t->count; at += DRAW_AT_ONCE) {
            int64_t n = t->count - at < DRAW_AT_ONCE ? t->count - at : DRAW_AT_ONCE;
            if (job.count == PIECES || job.drawn + n > job.room)
                draw_pieces(&job);
            job.pieces[job.count++] = (struct piece){t, at, n, job.values + job.drawn};
            job.drawn += n;
        }
    }
    draw_pieces(&job);
    free(job.values);
}
