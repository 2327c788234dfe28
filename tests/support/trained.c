#include "tests/support/trained.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/support/tap.h"

static size_t bytes_of(const struct parameters *p)
{
    return (size_t)p->trained_elements * sizeof(float);
}

const float *trained_values(const struct parameters *p, enum parameter_array which)
{
    return parameters_read(p, which, 0, p->trained_elements, NULL);
}

struct device without_regions(const struct device *d)
{
    struct device like = *d;
    like.host_memory = false;
    return like;
}

/* Elements of an array that p has in one piece. */
static const float *piece(const struct parameters *p, enum parameter_array which, struct slice s)
{
    if (!parameters_are_sharded(p) || which == ARRAY_WEIGHTS)
        return parameters_read(p, which, s.first, s.count, NULL);
    if (which == ARRAY_EMA)
        parameters_settle_ema((struct parameters *)p);
    return (const float *)p->arrays[which]->data + s.local;
}

/* Copies of what both have of an array: all trained elements, or those of the one that is sharded.
 * Returns their number. */
static size_t common_part(const struct parameters *a, const struct parameters *b,
                          enum parameter_array which, float **of_a, float **of_b)
{
    const struct slices *s = parameters_are_sharded(a) ? &a->slices : &b->slices;
    bool whole = which == ARRAY_WEIGHTS;
    size_t count = 0;
    *of_a = xmalloc(bytes_of(a));
    *of_b = xmalloc(bytes_of(a));
    for (int i = 0; i < s->buckets; i++)
        for (int shard = 0; shard < s->shards; shard++) {
            struct slice part = slices_at(s, i, shard);
            if (part.count == 0 || (!whole && shard != s->shard))
                continue;
            memcpy(*of_a + count, piece(a, which, part), (size_t)part.count * sizeof **of_a);
            memcpy(*of_b + count, piece(b, which, part), (size_t)part.count * sizeof **of_b);
            count += (size_t)part.count;
        }
    return count;
}

bool trained_same_bits(const struct parameters *a, const struct parameters *b,
                       enum parameter_array which)
{
    float *x, *y;
    size_t count = common_part(a, b, which, &x, &y);
    bool same = memcmp(x, y, count * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

double trained_distance(const struct parameters *a, const struct parameters *b,
                        enum parameter_array which)
{
    float *x, *y;
    size_t count = common_part(a, b, which, &x, &y);
    double distance = relative_l2(x, y, count);
    free(x);
    free(y);
    return distance;
}

void snapshot_take(struct snapshot *s, const struct parameters *p)
{
    *s = (struct snapshot){0};
    for (int i = 0; i < ARRAY_COUNT; i++)
        if (i != ARRAY_GRADIENTS)
            s->arrays[i] = memcpy(xmalloc(bytes_of(p)), trained_values(p, i), bytes_of(p));
}

bool snapshot_matches(const struct snapshot *s, const struct parameters *p)
{
    for (int i = 0; i < ARRAY_COUNT; i++)
        if (s->arrays[i] && memcmp(s->arrays[i], trained_values(p, i), bytes_of(p)) != 0)
            return false;
    return true;
}

void snapshot_release(struct snapshot *s)
{
    for (int i = 0; i < ARRAY_COUNT; i++)
        free(s->arrays[i]);
}
