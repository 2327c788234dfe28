#include "tests/support/collective_checks.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "tests/support/tap.h"

#define LARGE ((1 << 20) + 3) /* more than ranks show one another at a time */

static const int counts[] = {1, 7, 1000, LARGE};

/* Sums of these depend on their order. */
static float value(int rank, int micro_batch, int i)
{
    unsigned x = (unsigned)(i * 2654435761u) ^ (unsigned)(rank * 97 + micro_batch * 1009) * 40503u;
    float small = (float)(x % 1000003) / 1000003;
    return (rank + i) % 3 == 0 ? small * 1e8f : small;
}

static float expected(int ranks, int i)
{
    volatile float total = value(0, 0, i);
    for (int r = 1; r < ranks; r++)
        total += value(r, 0, i);
    for (int r = 0; r < ranks; r++)
        total += value(r, 1, i);
    return total;
}

/* Slices of different lengths, one of them empty if there are more than two. */
static void divide(int64_t *bounds, int ranks, int count)
{
    for (int r = 0; r <= ranks; r++)
        bounds[r] = r == 1 && ranks > 2 ? 0 : (int64_t)count * r * r / (ranks * ranks);
}

static void fill(float *x, int rank, int micro_batch, int count)
{
    for (int i = 0; i < count; i++)
        x[i] = value(rank, micro_batch, i);
}

/* Adds two micro-batches and shares the sum. */
static bool adds(struct collective *c, struct device *d, int count)
{
    float *host = xmalloc((size_t)count * sizeof *host);
    float *whole = xcalloc((size_t)count, sizeof *whole);
    int64_t bounds[COLLECTIVE_RANKS_MAX + 1];
    divide(bounds, c->size, count);
    float *total = whole + bounds[c->shard];
    fill(host, c->rank, 0, count);
    collective_sum_slices(c, d, &(struct sum_slices_args){host, total, bounds, true});
    fill(host, c->rank, 1, count);
    collective_sum_slices(c, d, &(struct sum_slices_args){host, total, bounds, false});
    collective_share_slices(c, d, &(struct share_slices_args){whole, bounds, sizeof *whole});
    collective_join(c, d);
    bool equal = true;
    for (int i = 0; i < count; i++) {
        float right = expected(c->size, i);
        equal &= memcmp(&whole[i], &right, sizeof right) == 0;
    }
    free(host);
    free(whole);
    return equal;
}

static bool broadcasts(struct collective *c, size_t bytes)
{
    unsigned char *data = xmalloc(bytes);
    bool equal = true;
    for (int root = 0; root < c->size; root++) {
        for (size_t i = 0; i < bytes; i++)
            data[i] = (unsigned char)(i * 7 + (size_t)c->rank);
        collective_broadcast(c, root, data, bytes);
        for (size_t i = 0; i < bytes; i++)
            equal &= data[i] == (unsigned char)(i * 7 + (size_t)root);
    }
    free(data);
    return equal;
}

static bool gathers(struct collective *c, size_t bytes)
{
    unsigned char *own = xmalloc(bytes), *all = xcalloc((size_t)c->size, bytes);
    bool equal = true;
    for (size_t i = 0; i < bytes; i++)
        own[i] = (unsigned char)(i * 7 + (size_t)c->rank);
    collective_gather(c, own, all, bytes);
    for (size_t r = 0; r < (size_t)c->size; r++)
        for (size_t i = 0; i < bytes; i++)
            equal &= all[r * bytes + i] == (unsigned char)(i * 7 + r);
    free(own);
    free(all);
    return equal;
}

static bool sums(struct collective *c)
{
    const double parts[COLLECTIVE_RANKS_MAX] = {1e17, 3, -1e17, 0.1, 7};
    double x[2] = {parts[c->rank], c->rank + 1}, right[2] = {0, c->size * (c->size + 1) / 2};
    for (int r = 0; r < c->size; r++)
        right[0] += parts[r];
    collective_sum(c, x, 2);
    return x[0] == right[0] && x[1] == right[1];
}

int collective_check(struct collective *c)
{
    struct device *d;
    struct error e;
    int failed = 0;
    threads_init(1 + c->rank % 2); /* sums do not depend on threads either */
    if (device_open(&d, "cpu", &e) != 0)
        die("%s", e.text);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        failed |= adds(c, d, counts[i]) ? 0 : 1;
    failed |= broadcasts(c, 1) && broadcasts(c, 4 * LARGE + 1) ? 0 : 2;
    failed |= gathers(c, 1) && gathers(c, 17) && gathers(c, 4 * LARGE + 1) ? 0 : 4;
    failed |= sums(c) ? 0 : 8;
    collective_barrier(c);
    device_close(d);
    return failed;
}

void collective_report(int ranks, int failed)
{
    static const char *const kinds[] = {"sum micro-batches in order", "broadcast", "gather",
                                        "sum doubles in order"};
    for (int i = 0; i < 4; i++)
        tap_ok(!(failed & (1 << i | 128)), "%d ranks %s", ranks, kinds[i]);
}
