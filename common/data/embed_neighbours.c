#include "common/data/embed_neighbours.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/data/latent_set_internal.h"

/* A fixed number of partial sums gives the same result on every machine. */
#define LANES 8
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

struct embed_neighbours {
    int64_t most, count;
    int64_t width, stride; /* of an embedding; stride: padded with zeros to whole LANES */
    uint64_t seed;
    int64_t *records; /* [count]: the candidates' numbers */
    float *embeds;    /* [count, stride], of length 1, or zero if the record's is zero */
};

struct neighbour {
    int64_t at; /* index among the candidates */
    float cosine;
};

/* The nearest candidates found so far for one sample, the nearest first. */
struct nearest {
    int64_t wanted, found;
    struct neighbour *items;
};

static double length_of(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* to: [stride], from: [width]. Returns the length of `from`. */
static double normalize(const struct embed_neighbours *n, float *to, const float *from)
{
    double length = length_of(from, n->width);
    memset(to, 0, (size_t)n->stride * sizeof *to);
    for (int64_t i = 0; i < n->width && length > 0; i++)
        to[i] = (float)(from[i] / length);
    return length;
}

static float dot(const float *a, const float *b, int64_t stride)
{
    lanes sum = {0}, x, y;
    for (int64_t i = 0; i < stride; i += LANES) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        sum += x * y;
    }
    float total = 0;
    for (int i = 0; i < LANES; i++)
        total += sum[i];
    return total;
}

static int read_candidates(struct embed_neighbours *n, struct latent_set *d, struct error *e)
{
    const struct shard_info *info = latent_set_info(d);
    float *moments = xmalloc(2 * shard_latent_count(info) * sizeof *moments);
    float *embed = xmalloc((size_t)n->width * sizeof *embed);
    struct shard_record r;
    int status = 0;
    shard_record_init(&r);
    int64_t most = n->count;
    n->count = 0;
    for (int64_t i = 0; i < most && status >= 0; i++) {
        int64_t record = latent_set_record_at(d, n->seed, 0, i);
        status = latent_set_read(d, record, &r, moments, embed, e);
        if (status != 0) /* a damaged one is no candidate */
            continue;
        n->records[n->count] = record;
        normalize(n, n->embeds + n->count++ * n->stride, embed);
    }
    shard_record_release(&r);
    free(moments);
    free(embed);
    return status < 0 ? -1 : 0;
}

int embed_neighbours_open(struct embed_neighbours **out, struct latent_set *d, int64_t most,
                          uint64_t seed, struct error *e)
{
    CHECK(most >= 1);
    struct embed_neighbours *n = xcalloc(1, sizeof *n);
    int64_t records = latent_set_training_count(d);
    n->most = most;
    n->seed = seed;
    n->count = records < EMBED_NEIGHBOURS_CANDIDATES ? records : EMBED_NEIGHBOURS_CANDIDATES;
    n->width = latent_set_info(d)->embed_size;
    n->stride = (n->width + LANES - 1) / LANES * LANES;
    n->records = xcalloc((size_t)n->count, sizeof *n->records);
    n->embeds = xcalloc((size_t)(n->count * n->stride), sizeof *n->embeds);
    if (read_candidates(n, d, e) != 0) {
        embed_neighbours_close(n);
        return -1;
    }
    *out = n;
    return 0;
}

void embed_neighbours_close(struct embed_neighbours *n)
{
    if (!n)
        return;
    free(n->records);
    free(n->embeds);
    free(n);
}

static void consider(struct nearest *s, int64_t at, float cosine)
{
    if (s->found == s->wanted && (s->wanted == 0 || cosine <= s->items[s->found - 1].cosine))
        return;
    int64_t place = s->found < s->wanted ? s->found++ : s->found - 1;
    for (; place > 0 && s->items[place - 1].cosine < cosine; place--)
        s->items[place] = s->items[place - 1];
    s->items[place] = (struct neighbour){at, cosine};
}

/* embed: [width], to have this length; direction: its own, of length 1. */
static void mix(const struct embed_neighbours *n, const struct nearest *s, const float *direction,
                double length, float *embed)
{
    double *sum = xmalloc((size_t)n->width * sizeof *sum), square = 0;
    for (int64_t i = 0; i < n->width; i++) {
        sum[i] = direction[i];
        for (int64_t k = 0; k < s->found; k++)
            sum[i] += n->embeds[s->items[k].at * n->stride + i];
        square += sum[i] * sum[i];
    }
    for (int64_t i = 0; i < n->width && square > 0; i++)
        embed[i] = (float)(sum[i] * length / sqrt(square));
    free(sum);
}

void embed_neighbours_mix(const struct embed_neighbours *n, float *embeds, int64_t count,
                          const uint64_t *samples, int64_t step)
{
    float *directions = xmalloc((size_t)(count * n->stride) * sizeof *directions);
    double *lengths = xmalloc((size_t)count * sizeof *lengths);
    struct nearest *nearest = xcalloc((size_t)count, sizeof *nearest);
    for (int64_t i = 0; i < count; i++) {
        float u;
        rng_uniform(&u, 1, n->seed, RNG_EMBED_NEIGHBOURS, (uint32_t)step, samples[i], 0);
        nearest[i].wanted = (int64_t)((double)u * (double)(n->most + 1));
        nearest[i].items = xcalloc((size_t)nearest[i].wanted + 1, sizeof *nearest[i].items);
        lengths[i] = normalize(n, directions + i * n->stride, embeds + i * n->width);
    }
    /* The candidates are the larger array: pass over them only once. */
    for (int64_t at = 0; at < n->count; at++)
        for (int64_t i = 0; i < count; i++)
            if (n->records[at] != (int64_t)samples[i])
                consider(&nearest[i], at,
                         dot(directions + i * n->stride, n->embeds + at * n->stride, n->stride));
    for (int64_t i = 0; i < count; i++) {
        if (nearest[i].found > 0)
            mix(n, &nearest[i], directions + i * n->stride, lengths[i], embeds + i * n->width);
        free(nearest[i].items);
    }
    free(nearest);
    free(lengths);
    free(directions);
}
