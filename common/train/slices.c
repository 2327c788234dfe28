#include "common/train/slices.h"

#include "kernels/training.h"

#define BUCKET_MOST                                                                                \
    INT64_C(67108864) /* elements: 256 MiB, as much as a link moves in about 1 ms                  \
                       */
#define BUCKETS 8     /* at least, where there are segments for them */

void slices_init(struct slices *s, int64_t elements, int shard, int shards)
{
    int64_t segments = (squares_segments(elements) + BUCKETS - 1) / BUCKETS;
    int64_t bucket = (segments > 0 ? segments : 1) * SQUARES_SEGMENT;
    *s = (struct slices){.shard = shard, .shards = shards, .elements = elements};
    s->bucket_elements = bucket < BUCKET_MOST ? bucket : BUCKET_MOST;
    s->buckets = (int)((elements + s->bucket_elements - 1) / s->bucket_elements);
}

int64_t slices_bucket(const struct slices *s, int bucket)
{
    int64_t first = bucket * s->bucket_elements;
    return first < s->elements ? first : s->elements;
}

/* Where slice `shard` begins in a bucket of this many elements. */
static int64_t begin_of(int64_t elements, int shard, int shards)
{
    int64_t begin = squares_segments(elements) * shard / shards * SQUARES_SEGMENT;
    return begin < elements ? begin : elements;
}

struct slice slices_at(const struct slices *s, int bucket, int shard)
{
    int64_t first = slices_bucket(s, bucket), size = slices_bucket(s, bucket + 1) - first;
    int64_t begin = begin_of(size, shard, s->shards), end = begin_of(size, shard + 1, s->shards);
    int64_t full = begin_of(s->bucket_elements, shard + 1, s->shards) -
                   begin_of(s->bucket_elements, shard, s->shards);
    return (struct slice){.first = first + begin, .count = end - begin, .local = bucket * full};
}

struct slice slice_part(struct slice s, int64_t first, int64_t count)
{
    int64_t begin = s.first > first ? s.first : first;
    int64_t end = s.first + s.count < first + count ? s.first + s.count : first + count;
    return (struct slice){begin, end > begin ? end - begin : 0, s.local + begin - s.first};
}

void slices_bounds(const struct slices *s, int bucket, int64_t *bounds)
{
    int64_t size = slices_bucket(s, bucket + 1) - slices_bucket(s, bucket);
    for (int shard = 0; shard <= s->shards; shard++)
        bounds[shard] = begin_of(size, shard, s->shards);
}

int64_t slices_owned(const struct slices *s)
{
    if (s->buckets == 0)
        return 0;
    struct slice last = slices_at(s, s->buckets - 1, s->shard);
    return last.local + last.count;
}
