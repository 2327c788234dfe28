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

#define DRAW_AT_ONCE (1 << 16)
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

static void initialize_cloob(struct parameters *p, const struct parameter *t, uint64_t seed)
{
    float *host = xmalloc(DRAW_AT_ONCE * sizeof *host);
    float deviation = (float)cloob_deviation(t);
    for (int64_t at = 0; at < t->count; at += DRAW_AT_ONCE) {
        int64_t n = t->count - at < DRAW_AT_ONCE ? t->count - at : DRAW_AT_ONCE;
        if (deviation > 0)
            draw_truncated_normals(host, n, seed, fnv1a(t->name), at);
        for (int64_t i = 0; i < n; i++)
            host[i] = deviation > 0 ? deviation * host[i] : !has_suffix(t->name, ".bias");
        parameters_write(p, ARRAY_WEIGHTS, t->offset + at, n, host);
    }
    free(host);
}

/* Standard deviation of a discriminator's initial kernels, around 0, and norms, around 1. */
#define DISCRIMINATOR_DEVIATION 0.02f

static bool is_discriminator_normal(const struct parameters *p, const struct parameter *t)
{
    return p->net == NET_DISCRIMINATOR && has_suffix(t->name, ".weight");
}

static void initialize_discriminator(struct parameters *p, const struct parameter *t, uint64_t seed)
{
    float *host = xmalloc((size_t)t->count * sizeof *host);
    rng_normal(host, (size_t)t->count, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name), 0);
    for (int64_t i = 0; i < t->count; i++)
        host[i] = DISCRIMINATOR_DEVIATION * host[i] + (t->ndim == 1);
    parameters_write(p, ARRAY_WEIGHTS, t->offset, t->count, host);
    free(host);
}

static void initialize(struct parameters *p, const struct parameter *t, uint64_t seed)
{
    if (is_discriminator_normal(p, t)) {
        initialize_discriminator(p, t, seed);
        return;
    }
    if (p->net == NET_CLOOB) {
        initialize_cloob(p, t, seed);
        return;
    }
    float *host = xmalloc(DRAW_AT_ONCE * sizeof *host);
    float gain = p->net == NET_UNET && t->trained ? sqrtf(0.5f) : 1;
    int64_t inputs = fan_in(p, t);
    float bound = inputs ? gain / sqrtf((float)inputs) : 0;
    for (int64_t at = 0; at < t->count; at += DRAW_AT_ONCE) {
        int64_t n = t->count - at < DRAW_AT_ONCE ? t->count - at : DRAW_AT_ONCE;
        if (!t->trained)
            rng_normal(host, (size_t)n, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name), (uint64_t)at);
        else if (inputs)
            rng_uniform(host, (size_t)n, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name),
                        (uint64_t)at);
        for (int64_t i = 0; t->trained && i < n; i++)
            host[i] = inputs ? (2 * host[i] - 1) * bound : has_suffix(t->name, ".bias") ? 0 : gain;
        parameters_write(p, ARRAY_WEIGHTS, t->offset + at, n, host);
    }
    free(host);
}

struct initialization {
    struct parameters *parameters;
    uint64_t seed;
};

static void initialize_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct initialization *job = arg;
    for (int64_t i = begin; i < end; i++)
        initialize(job->parameters, &job->parameters->tensors[i], job->seed);
}

void parameters_initialize(struct parameters *p, uint64_t seed)
{
    struct initialization job = {.parameters = p, .seed = seed};
    parallel_for(p->device->host_memory ? p->count : 0, 1, initialize_some, &job);
    for (int i = 0; !p->device->host_memory && i < p->count; i++)
        initialize(p, &p->tensors[i], seed);
}
