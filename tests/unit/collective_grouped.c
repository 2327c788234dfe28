/* Emulated GPUs, each of a process, sum and share slices: plainly, recorded and replayed, the same
 * bits as sums in order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/train/collective_grouped.h"
#include "common/train/collective_shared.h"
#include "common/train/step.h"
#include "kernels/replay.h"
#include "kernels/tensor.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

#define RANKS 4
#define STEPS 4                 /* of which the second is recorded */
#define LARGE (3000 * 1024 + 3) /* more than comes from a rank at a time */

/* How the ranks of a test run. */
struct layout {
    int ranks, shards; /* shards: ranks per host */
    int64_t count;     /* of all slices */
    bool equal;        /* slices */
    const char *order; /* of the emulator's streams, or NULL */
    int failing;       /* rank that cannot record, or -1 */
};

/* A rank's state. */
struct work {
    struct collective *collective;
    struct device *device;
    struct tape tape;
    int64_t bounds[RANKS + 1];
    struct tensor *gradient, *first, *second; /* [count]: given; two micro-batches of it */
    struct tensor *total;                     /* of the own slice */
    struct tensor *weights, *seen;            /* [count]: shared totals; a copy of them */
    double *numbers;                          /* [count], of the device */
    size_t granted;
    int calls;
};

/* Sums of these depend on their order. */
static float value(int rank, int step, int64_t i)
{
    unsigned x = (unsigned)i * 2654435761u ^ (unsigned)(rank * 97 + step * 1009) * 40503u;
    float small = (float)(x % 1000003) / 1000003;
    return (rank + i) % 3 == 0 ? small * 1e8f : small;
}

static float micro_batch(int rank, int step, int64_t i, int m)
{
    return value(rank, step, i) * (m == 0 ? 1.0f : 3.0f);
}

/* Micro-batches in order, in each the hosts, and on each host the ranks, of which the only one's
 * are added to the total one by one. */
static float expected(const struct layout *l, int step, int64_t i)
{
    int hosts = l->ranks % l->shards ? 1 : l->ranks / l->shards, shards = l->ranks / hosts;
    volatile float total = 0, all, part;
    for (int m = 0; m < 2; m++) {
        if (hosts == 1) {
            for (int r = 0; r < shards; r++)
                total = m + r == 0 ? value(0, step, i) : total + micro_batch(r, step, i, m);
            continue;
        }
        for (int h = 0; h < hosts; h++) {
            part = micro_batch(h * shards, step, i, m);
            for (int r = 1; r < shards; r++)
                part = part + micro_batch(h * shards + r, step, i, m);
            all = h == 0 ? part : all + part;
        }
        total = m == 0 ? all : total + all;
    }
    return total;
}

static double number(int owner, int step, int64_t i)
{
    return owner + step * 10 + (double)i / 3;
}

/* Unequal slices are of different lengths, one of them empty if there are more than two. */
static void divide(int64_t *bounds, int shards, int64_t count, bool equal)
{
    for (int s = 0; s <= shards; s++)
        if (equal)
            bounds[s] = count / shards * s;
        else
            bounds[s] = s == 1 && shards > 2 ? 0 : count * s * s / ((int64_t)shards * shards);
}

static void scale(struct device *d, struct tensor *y, const struct tensor *x, float by)
{
    struct linear_combination_args a = {.count = 1, .x = {x}, .coefficients = {by}, .y = y};
    d->backend->linear_combination(d, &a);
}

static void copy_own(struct work *w)
{
    const int64_t *b = &w->bounds[w->collective->shard];
    if (b[1] == b[0])
        return;
    struct tensor *own = tensor_slice(w->weights, b[0], b[1] - b[0]);
    tensor_copy(own, w->total);
    tensor_release(own);
}

/* A replay_function. Two sums are on their way at a time, then two shares; what they read and write
 * is overwritten or read as soon as they are joined. */
static void step(struct tape *t, void *context)
{
    struct work *w = context;
    struct collective *c = w->collective;
    struct device *d = w->device;
    float *total = w->total->data;
    scale(d, w->first, w->gradient, 1);
    collective_sum_slices(c, d, &(struct sum_slices_args){w->first->data, total, w->bounds, true});
    scale(d, w->second, w->gradient, 3);
    collective_sum_slices(c, d,
                          &(struct sum_slices_args){w->second->data, total, w->bounds, false});
    collective_join(c, d);
    scale(d, w->first, w->gradient, -1);
    scale(d, w->second, w->gradient, -1);
    copy_own(w);
    collective_share_slices(
        c, d, &(struct share_slices_args){w->weights->data, w->bounds, sizeof(float)});
    collective_share_slices(c, d,
                            &(struct share_slices_args){w->numbers, w->bounds, sizeof(double)});
    collective_join(c, d);
    tensor_copy(w->seen, w->weights);
    w->calls++;
}

static void work_init(struct work *w, struct collective *c, struct device *d,
                      const struct layout *l)
{
    *w = (struct work){.collective = c, .device = d};
    divide(w->bounds, c->shards, l->count, l->equal);
    int64_t own = w->bounds[c->shard + 1] - w->bounds[c->shard];
    struct tensor **whole[] = {&w->gradient, &w->first, &w->second, &w->weights, &w->seen};
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        *whole[i] = tensor_new(d, DTYPE_F32, DIMS(l->count));
    w->total = tensor_new(d, DTYPE_F32, DIMS(own ? own : 1));
    w->total->shape[0] = own;
    w->numbers = device_allocate(d, (size_t)l->count * sizeof(double), &w->granted);
    tape_init(&w->tape, d);
}

static void work_release(struct work *w)
{
    tape_release(&w->tape);
    device_release(w->device, w->numbers, w->granted);
    tensor_release(w->gradient);
    tensor_release(w->first);
    tensor_release(w->second);
    tensor_release(w->total);
    tensor_release(w->weights);
    tensor_release(w->seen);
}

static int owner_of(const struct work *w, int64_t i)
{
    int s = 0;
    while (i >= w->bounds[s + 1])
        s++;
    return s;
}

static void give_inputs(struct work *w, int number_of_step, int64_t count)
{
    float *gradient = xmalloc((size_t)count * sizeof *gradient);
    double *numbers = xmalloc((size_t)count * sizeof *numbers);
    for (int64_t i = 0; i < count; i++) {
        int owner = i < w->bounds[w->collective->shards] ? owner_of(w, i) : -1;
        gradient[i] = value(w->collective->rank, number_of_step, i);
        numbers[i] = owner == w->collective->shard ? number(owner, number_of_step, i) : -1;
    }
    tensor_upload(w->gradient, gradient);
    w->device->backend->upload(w->device, w->numbers, numbers, (size_t)count * sizeof *numbers);
    free(gradient);
    free(numbers);
}

static bool outputs_right(struct work *w, int number_of_step, const struct layout *l)
{
    float *weights = xmalloc((size_t)l->count * sizeof *weights);
    double *numbers = xmalloc((size_t)l->count * sizeof *numbers);
    bool right = true;
    tensor_to_f32(w->seen, weights);
    w->device->backend->download(w->device, numbers, w->numbers,
                                 (size_t)l->count * sizeof *numbers);
    for (int64_t i = 0; i < w->bounds[w->collective->shards]; i++) {
        float sum = expected(l, number_of_step, i);
        right &= memcmp(&weights[i], &sum, sizeof sum) == 0;
        right &= numbers[i] == number(owner_of(w, i), number_of_step, i);
    }
    free(weights);
    free(numbers);
    return right;
}

/* Returns whether all steps were right, and ran as often as they should: in the first, in the
 * recording, and in all others if a rank could not record. */
static bool run_steps(struct collective *c, struct device *d, const struct layout *l)
{
    struct work w;
    work_init(&w, c, d, l);
    struct replay *r = replay_new(&w.tape, step, &w);
    replay_agree(r, step_agree, c);
    bool right = true;
    for (int i = 0; i < STEPS; i++) {
        give_inputs(&w, i, l->count);
        replay_run(r);
        right &= outputs_right(&w, i, l);
    }
    right &= w.calls == (l->failing < 0 ? 2 : 2 + STEPS - 1);
    replay_free(r);
    work_release(&w);
    return right;
}

static struct device *open_gpu(int rank)
{
    struct device *d;
    struct error e;
    char spec[32];
    snprintf(spec, sizeof spec, "cuda:%d", rank);
    if (device_open(&d, spec, &e) != 0)
        die("%s", e.text);
    return d;
}

typedef bool rank_function(struct collective *host, const struct layout *l);

static bool sums_and_shares(struct collective *host, const struct layout *l)
{
    struct device *d = open_gpu(host->rank);
    struct collective *c;
    struct error e;
    if (l->order)
        setenv("CCLD_EMULATED_ORDER", l->order, 1);
    if (host->rank == l->failing)
        setenv("CCLD_EMULATED_GRAPHS", "0", 1);
    if (collective_grouped(&c, host, d, l->shards, &e) != 0)
        die("%s", e.text);
    bool right = run_steps(c, d, l);
    collective_close(c);
    device_close(d);
    return right;
}

/* Calls f in a process per rank. Returns whether it was right in all. */
static bool on_ranks(rank_function *f, const struct layout *l)
{
    struct shared_room *room = shared_room_new(l->ranks);
    bool right = true;
    int status;
    fflush(stdout);
    for (int rank = 0; rank < l->ranks; rank++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            _exit(f(collective_shared(room, rank), l) ? 0 : 1);
    }
    for (int rank = 0; rank < l->ranks; rank++) {
        CHECK(wait(&status) > 0);
        right &= status == 0;
    }
    shared_room_free(room);
    return right;
}

static void test_counts(int ranks, int shards, const char *how)
{
    static const int64_t counts[] = {1, 7, 1001};
    static const char *const orders[] = {"early", "late", NULL};
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        bool right = true;
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (int equal = 0; equal < 2; equal++)
                right &= on_ranks(sums_and_shares,
                                  &(struct layout){ranks, shards, counts[i], equal, orders[o], -1});
        tap_ok(right, "%s: sums in order, shared, with other streams' work %s", how,
               orders[o] ? orders[o] : "in any order");
    }
}

static void test_large(void)
{
    tap_ok(on_ranks(sums_and_shares, &(struct layout){2, 2, LARGE, false, "late", -1}) &&
               on_ranks(sums_and_shares, &(struct layout){2, 2, LARGE, true, "early", -1}) &&
               on_ranks(sums_and_shares, &(struct layout){2, 1, LARGE, true, NULL, -1}),
           "slices larger than what comes at a time");
}

/* ---- errors */

static bool refused(struct collective *host, struct device *d, const char *text)
{
    struct collective *c;
    struct error e;
    bool right = collective_grouped(&c, host, d, host->size, &e) != 0 && strstr(e.text, text);
    if (!right)
        warn("said: %s", e.text);
    device_close(d);
    collective_close(host);
    return right;
}

static bool without_library(struct collective *host, const struct layout *l)
{
    if (host->rank == 0)
        setenv("CCLD_NCCL", "/nowhere/libnccl.so.2", 1);
    return refused(host, open_gpu(host->rank),
                   "rank 0: cannot load NCCL, which several GPUs need: /nowhere/libnccl.so.2: "
                   "cannot open shared object file: No such file or directory; install libnccl2 "
                   "or the PyPI package nvidia-nccl-cu13, or set CCLD_NCCL to the library's path");
}

static bool on_cpu(struct collective *host, const struct layout *l)
{
    struct device *d;
    CHECK(device_open(&d, "cpu", NULL) == 0);
    return refused(host, d, "rank 0: the device cannot communicate with others");
}

static bool alone_without_library(struct collective *host, const struct layout *l)
{
    setenv("CCLD_NCCL", "/nowhere/libnccl.so.2", 1);
    return sums_and_shares(host, l);
}

static bool with_wrong_id(struct collective *host, const struct layout *l)
{
    struct device *d = open_gpu(host->rank);
    const struct group_options o = {.shard = host->rank, .shards = 2, .hosts = 1};
    const char *problem = d->backend->group->open(d, &o);
    return problem && strstr(problem, "NCCL cannot connect 2 GPUs: invalid usage (");
}

static void test_errors(void)
{
    const struct layout two = {2, 2, 10, false, NULL, -1};
    tap_ok(on_ranks(without_library, &two), "without libnccl, all ranks say what to install");
    tap_ok(on_ranks(on_cpu, &two), "devices that cannot communicate are refused");
    tap_ok(on_ranks(alone_without_library, &(struct layout){1, 1, 10, false, NULL, -1}),
           "one GPU needs no libnccl");
    tap_ok(on_ranks(with_wrong_id, &two), "NCCL's reason is in the message");
}

int main(void)
{
    emulated_cuda();
    setenv("CCLD_EMULATED_GPUS", "4", 1);
    test_counts(1, 1, "1 GPU");
    test_counts(2, 2, "2 GPUs");
    test_counts(3, 3, "3 GPUs");
    test_counts(4, 4, "4 GPUs");
    test_counts(4, 2, "2 hosts of 2 GPUs");
    test_counts(3, 2, "3 GPUs on unequal hosts");
    test_large();
    for (int failing = 0; failing < 3; failing++)
        tap_ok(on_ranks(sums_and_shares, &(struct layout){3, 3, 100, false, NULL, failing}),
               "rank %d cannot record: none replays", failing);
    test_errors();
    return tap_done();
}
