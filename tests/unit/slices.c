/* Slices cover every trained element once, whatever the number of shards. */
#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/slices.h"
#include "kernels/training.h"
#include "tests/support/tap.h"

static const int64_t sizes[] = {0,
                                1,
                                SQUARES_SEGMENT - 1,
                                SQUARES_SEGMENT,
                                3 * SQUARES_SEGMENT + 5,
                                100 * SQUARES_SEGMENT + 17,
                                INT64_C(1200000000)};

struct found {
    bool covers, aligned, packed;
    int64_t least, most; /* elements of a shard */
    int buckets;
};

static void check_bucket(struct found *f, const struct slices *s, int bucket, int64_t *at,
                         int64_t *owned)
{
    int64_t *bounds = xcalloc((size_t)s->shards + 1, sizeof *bounds);
    slices_bounds(s, bucket, bounds);
    for (int shard = 0; shard < s->shards; shard++) {
        struct slice part = slices_at(s, bucket, shard);
        f->covers &= part.first == *at && part.count == bounds[shard + 1] - bounds[shard];
        f->aligned &= part.count == 0 || part.first % SQUARES_SEGMENT == 0;
        f->packed &= part.count == 0 || part.local == owned[shard];
        owned[shard] += part.count;
        *at += part.count;
    }
    f->covers &= *at == slices_bucket(s, bucket + 1);
    free(bounds);
}

static struct found check(int64_t elements, int shards)
{
    struct found f = {.covers = true, .aligned = true, .packed = true, .least = INT64_MAX};
    struct slices s;
    int64_t at = 0, *owned = xcalloc((size_t)shards, sizeof *owned);
    slices_init(&s, elements, 0, shards);
    for (int b = 0; b < s.buckets; b++)
        check_bucket(&f, &s, b, &at, owned);
    f.covers &= at == elements;
    for (int shard = 0; shard < shards; shard++) {
        slices_init(&s, elements, shard, shards);
        f.packed &= slices_owned(&s) == owned[shard];
        f.least = owned[shard] < f.least ? owned[shard] : f.least;
        f.most = owned[shard] > f.most ? owned[shard] : f.most;
    }
    f.buckets = s.buckets;
    free(owned);
    return f;
}

int main(void)
{
    static const int shards[] = {1, 2, 3, 8, 64};
    for (size_t i = 0; i < sizeof shards / sizeof *shards; i++) {
        bool covers = true, aligned = true, packed = true, alike = true;
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            struct found f = check(sizes[j], shards[i]), one = check(sizes[j], 1);
            covers &= f.covers;
            aligned &= f.aligned;
            packed &= f.packed;
            alike &= f.buckets == one.buckets && f.most - f.least <= f.buckets * SQUARES_SEGMENT;
        }
        tap_ok(covers, "%d shards: slices cover each element once, in order", shards[i]);
        tap_ok(aligned, "%d shards: they begin where sums of squares do", shards[i]);
        tap_ok(packed, "%d shards: a shard's slices lie together", shards[i]);
        tap_ok(alike, "%d shards: about equal, in the same buckets as one", shards[i]);
    }
    return tap_done();
}
