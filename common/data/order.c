#include "common/data/order.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/rng.h"

struct candidate {
    uint64_t key;
    int64_t record;
};

static bool candidate_before(const struct candidate *a, const struct candidate *b)
{
    return a->key != b->key ? a->key < b->key : a->record < b->record;
}

/* Restores a heap with the largest candidate on top, if heap[at] may be smaller than a child. */
static void sift_down(struct candidate *heap, int64_t n, int64_t at)
{
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && candidate_before(&heap[child], &heap[child + 1]))
            child++;
        if (candidate_before(&heap[child], &heap[at]))
            return;
        struct candidate c = heap[at];
        heap[at] = heap[child];
        heap[child] = c;
        at = child;
    }
}

static int compare_numbers(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Holds out the n records whose numbers have the smallest hashes. A record outside these n stays
 * outside when records are added, so no record that was trained on is ever held out. */
static void choose_held_out(struct order *o)
{
    struct candidate *heap = xcalloc((size_t)o->holdout + 1, sizeof *heap);
    int64_t n = 0;
    for (int64_t i = 0; o->holdout > 0 && i < o->records; i++) {
        uint32_t words[4];
        rng_words(words, 0, RNG_HOLDOUT, 0, (uint64_t)i, 0);
        struct candidate c = {(uint64_t)words[0] << 32 | words[1], i};
        if (n < o->holdout) {
            heap[n++] = c;
            for (int64_t at = n / 2; n == o->holdout && at-- > 0;)
                sift_down(heap, n, at);
        } else if (candidate_before(&c, &heap[0])) {
            heap[0] = c;
            sift_down(heap, n, 0);
        }
    }
    o->held_out = xcalloc((size_t)o->holdout + 1, sizeof *o->held_out);
    for (int64_t i = 0; i < o->holdout; i++)
        o->held_out[i] = heap[i].record;
    qsort(o->held_out, (size_t)o->holdout, sizeof *o->held_out, compare_numbers);
    free(heap);
}

void order_init(struct order *o, int64_t records, int64_t holdout)
{
    CHECK(holdout >= 0 && holdout < records);
    *o = (struct order){.records = records, .holdout = holdout};
    choose_held_out(o);
    int bits = 2;
    while (INT64_C(1) << bits < order_training_count(o))
        bits++;
    o->half_bits[0] = bits / 2;
    o->half_bits[1] = bits - bits / 2;
}

void order_release(struct order *o)
{
    free(o->held_out);
    *o = (struct order){0};
}

int64_t order_training_count(const struct order *o)
{
    return o->records - o->holdout;
}

/* A bijection of [0, 2^bits): a Feistel network whose rounds draw from Philox (Luby and Rackoff,
 * "How to construct pseudorandom permutations from pseudorandom functions", 1988). */
#define SHUFFLE_ROUNDS 16 /* with 8, the orders of 5 to 8 records are visibly not uniform */

static uint64_t feistel(const int bits[2], uint64_t seed, uint64_t epoch, uint64_t x)
{
    const uint64_t mask[2] = {(UINT64_C(1) << bits[0]) - 1, (UINT64_C(1) << bits[1]) - 1};
    uint64_t half[2] = {x >> bits[1], x & mask[1]};
    for (uint32_t round = 0; round < SHUFFLE_ROUNDS; round++) {
        int to = round % 2;
        uint32_t words[4];
        rng_words(words, seed, RNG_SHUFFLE, round, epoch, (uint32_t)half[!to]);
        half[to] ^= words[0] & mask[to];
    }
    return half[0] << bits[1] | half[1];
}

/* The number of the training record that follows `i` other training records. */
static int64_t training_record(const struct order *o, int64_t i)
{
    int64_t low = 0, high = o->holdout; /* the number of held-out records before it */
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (o->held_out[middle] - middle <= i)
            low = middle + 1;
        else
            high = middle;
    }
    return i + low;
}

int64_t order_record_at(const struct order *o, uint64_t seed, int64_t epoch, int64_t place)
{
    uint64_t n = (uint64_t)order_training_count(o), x = (uint64_t)place;
    CHECK(epoch >= 0 && place >= 0 && x < n);
    do
        x = feistel(o->half_bits, seed, (uint64_t)epoch, x);
    while (x >= n); /* a cycle that begins below n returns there: still a bijection */
    return training_record(o, (int64_t)x);
}

int64_t order_holdout_at(const struct order *o, int64_t i)
{
    CHECK(i >= 0 && i < o->holdout);
    return o->held_out[i];
}

int64_t order_steps_per_epoch(const struct order *o, int64_t effective_batch)
{
    return order_training_count(o) / effective_batch;
}

struct data_position order_advance(const struct order *o, struct data_position p, int64_t steps,
                                   int64_t effective_batch)
{
    int64_t per_epoch = order_steps_per_epoch(o, effective_batch);
    CHECK(per_epoch > 0 && steps >= 0 && p.place >= 0);
    int64_t left = order_training_count(o) - p.place;
    int64_t left_steps = left < 0 ? 0 : left / effective_batch;
    if (steps < left_steps)
        return (struct data_position){p.epoch, p.place + steps * effective_batch};
    steps -= left_steps;
    return (struct data_position){p.epoch + 1 + steps / per_epoch,
                                  steps % per_epoch * effective_batch};
}
