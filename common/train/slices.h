#ifndef CCLD_TRAIN_SLICES_H
#define CCLD_TRAIN_SLICES_H

#include <stdint.h>

/* How the trained elements of flat arrays are divided among ranks: into buckets of consecutive
 * elements, which are sent as soon as their gradients are complete, and each bucket into a slice
 * per shard. Slices begin at multiples of SQUARES_SEGMENT elements. Buckets do not depend on the
 * number of shards, and no result depends on either. */
struct slices {
    int shard, shards; /* this rank's, and their number */
    int64_t elements, bucket_elements;
    int buckets;
};

void slices_init(struct slices *s, int64_t elements, int shard, int shards);

struct slice {
    int64_t first, count; /* elements of the whole array */
    int64_t local; /* its first element in an array that holds only the slices of its shard */
};
struct slice slices_at(const struct slices *s, int bucket, int shard);
/* What of it is in the whole array's elements [first, first + count). */
struct slice slice_part(struct slice s, int64_t first, int64_t count);
/* First element of a bucket; of number `buckets`: the number of elements. */
int64_t slices_bucket(const struct slices *s, int bucket);
/* The bucket of an element. */
static inline int slices_bucket_of(const struct slices *s, int64_t element)
{
    return (int)(element / s->bucket_elements);
}
/* bounds[shards + 1]: where the bucket's slices begin and end, from its first element. */
void slices_bounds(const struct slices *s, int bucket, int64_t *bounds);
/* Elements of all slices of this shard. */
int64_t slices_owned(const struct slices *s);

#endif
