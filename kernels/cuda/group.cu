#include <unistd.h>

#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/nccl.h"

#define THREADS 256
/* Floats that come from each other rank at a time: enough to fill the bus, and a small part of the
 * memory. */
#define PIECE ((int64_t)1 << 21)

struct group {
    struct group_options options;
    ncclComm_t shards, hosts; /* the ranks of this host; those with this slice; NULL: only this */
    cudaStream_t stream;
    cudaEvent_t forked, joined;
    float *received; /* [shards - 1][PIECE], from the other ranks in their order */
    float *summed;   /* [PIECE], this host's part of a sum; NULL if there is one host */
    bool pending;    /* there is work that has not been joined */
};

static const struct nccl *nccl;

/* Ends the process without the exit handlers of CUDA and NCCL, which would wait for other ranks. */
static void check(ncclResult_t result, const char *call)
{
    if (result == ncclSuccess)
        return;
    plugin_host->warn("NCCL: %.*s: %s (%s)", (int)strcspn(call, "("), call,
                      nccl->ncclGetErrorString(result), nccl->ncclGetLastError(NULL));
    fflush(NULL);
    _exit(1);
}
#define nccl_check(call) check(nccl->call, #call)

/* ---- opening and closing */

static int open_groups;

/* Run before the exit handlers of CUDA and NCCL, if the program fails for whatever reason. */
static void leave(int status, void *unused)
{
    if (status == 0 || open_groups == 0)
        return;
    fflush(NULL);
    _exit(status);
}

static const char *new_id(void *id)
{
    static char why[300];
    const char *problem;
    nccl = nccl_load(&problem);
    if (!nccl)
        return problem;
    const ncclResult_t result = nccl->ncclGetUniqueId((ncclUniqueId *)id);
    if (result == ncclSuccess)
        return NULL;
    snprintf(why, sizeof why, "NCCL finds no network to meet other ranks on: %s (%s)",
             nccl->ncclGetErrorString(result), nccl->ncclGetLastError(NULL));
    return why;
}

static const char *meet(ncclComm_t *comm, const unsigned char *id, int rank, int count)
{
    static char why[300];
    ncclUniqueId unique;
    const char *problem;
    if (count == 1)
        return NULL;
    nccl = nccl_load(&problem);
    if (!nccl)
        return problem;
    memcpy(&unique, id, sizeof unique);
    const ncclResult_t result = nccl->ncclCommInitRank(comm, count, unique, rank);
    if (result == ncclSuccess)
        return NULL;
    snprintf(why, sizeof why, "NCCL cannot connect %d GPUs: %s (%s)", count,
             nccl->ncclGetErrorString(result), nccl->ncclGetLastError(NULL));
    return why;
}

static const char *make_buffers(struct group *g)
{
    static char why[100];
    const size_t received = (size_t)(g->options.shards - 1) * PIECE * sizeof(float);
    const size_t summed = g->options.hosts > 1 ? PIECE * sizeof(float) : 0;
    if (cudaMalloc((void **)&g->received, received + summed) != cudaSuccess) {
        cudaGetLastError();
        snprintf(why, sizeof why, "out of memory: cannot allocate %zu MB to receive gradients",
                 (received + summed) >> 20);
        return why;
    }
    if (summed)
        g->summed = g->received + (g->options.shards - 1) * PIECE;
    return NULL;
}

static const char *open(struct device *d, const struct group_options *o)
{
    static bool registered;
    struct group *g = (struct group *)calloc(1, sizeof *g);
    if (!g)
        cuda_die("out of memory");
    g->options = *o;
    const char *problem = make_buffers(g);
    if (!registered)
        on_exit(leave, NULL);
    registered = true;
    open_groups++; /* from now on others may wait for this rank */
    if (!problem)
        problem = meet(&g->shards, o->host_id, o->shard, o->shards);
    if (!problem)
        problem = meet(&g->hosts, o->shard_id, o->host, o->hosts);
    if (problem) {
        cudaFree(g->received);
        free(g);
        return problem;
    }
    /* Before the device's other work, which it would otherwise wait for longer than necessary. */
    cuda_check(cudaStreamCreateWithPriority(&g->stream, cudaStreamNonBlocking, -1));
    cuda_check(cudaEventCreateWithFlags(&g->forked, cudaEventDisableTiming));
    cuda_check(cudaEventCreateWithFlags(&g->joined, cudaEventDisableTiming));
    cuda_of(d)->group = g;
    return NULL;
}

static void close(struct device *d)
{
    struct group *g = cuda_of(d)->group;
    cuda_check_result(cudaStreamSynchronize(g->stream), "waiting for other ranks");
    if (g->hosts)
        nccl_check(ncclCommDestroy(g->hosts));
    if (g->shards)
        nccl_check(ncclCommDestroy(g->shards));
    cuda_check(cudaFree(g->received));
    cuda_check(cudaEventDestroy(g->forked));
    cuda_check(cudaEventDestroy(g->joined));
    cuda_check(cudaStreamDestroy(g->stream));
    free(g);
    cuda_of(d)->group = NULL;
    open_groups--;
}

/* ---- the order of work */

static struct group *fork_from(struct device *d)
{
    struct group *g = cuda_of(d)->group;
    cuda_check(cudaEventRecord(g->forked, stream_of(d)));
    cuda_check(cudaStreamWaitEvent(g->stream, g->forked, 0));
    g->pending = true;
    return g;
}

bool group_settle(struct device *d)
{
    struct group *g = cuda_of(d)->group;
    if (!g || !g->pending)
        return true;
    g->pending = false;
    return cudaEventRecord(g->joined, g->stream) == cudaSuccess &&
           cudaStreamWaitEvent(stream_of(d), g->joined, 0) == cudaSuccess;
}

static void join(struct device *d)
{
    if (!group_settle(d))
        cuda_die("CUDA: joining the work of other ranks: %s",
                 cudaGetErrorString(cudaGetLastError()));
}

/* ---- sums: reads every rank's slice and the total once, writes the total once */

/* Ranks' operands at the same place of the slice that this rank owns. */
struct operands {
    const float *own, *received;
    int rank, ranks;
    bool first;
};

template <int N>
static __global__ void __launch_bounds__(THREADS)
    add_in_order(const operands x, float *total, int64_t begin, int64_t count)
{
    const int64_t i = begin + ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    vec<float, N> sum;
    if (i >= count)
        return;
    if (!x.first)
        sum = load_vec<N>(total + i);
#pragma unroll 4
    for (int r = 0; r < x.ranks; r++) {
        const float *from =
            r == x.rank ? x.own : x.received + (int64_t)(r < x.rank ? r : r - 1) * PIECE;
        const vec<float, N> operand = load_vec<N>(from + i);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum[k] = r == 0 && x.first ? operand[k] : sum[k] + operand[k];
    }
    store_vec(total + i, sum);
}

static void launch_sum(const struct group *g, const operands &x, float *total, int64_t count)
{
    const bool aligned = ((uintptr_t)x.own | (uintptr_t)total) % 16 == 0;
    const int64_t wide = aligned ? count / 4 * 4 : 0;
    if (wide > 0)
        LAUNCH(add_in_order<4>, (unsigned)divide_up(wide / 4, THREADS), THREADS, 0, g->stream, x,
               total, (int64_t)0, wide);
    if (wide < count)
        LAUNCH(add_in_order<1>, (unsigned)divide_up(count - wide, THREADS), THREADS, 0, g->stream,
               x, total, wide, count);
}

/* Elements of slice s from `at` on, at most a piece. */
static int64_t piece_of(const int64_t *bounds, int s, int64_t at)
{
    const int64_t left = bounds[s + 1] - bounds[s] - at;
    return left < 0 ? 0 : left < PIECE ? left : PIECE;
}

/* Every rank sends each owner its piece of that one's slice. */
static void exchange(const struct group *g, const struct sum_slices_args *a, int64_t at)
{
    const int own = g->options.shard;
    const size_t expected = (size_t)piece_of(a->bounds, own, at);
    nccl_check(ncclGroupStart());
    for (int s = 0; s < g->options.shards; s++) {
        const size_t count = (size_t)piece_of(a->bounds, s, at);
        if (s == own)
            continue;
        if (count > 0)
            nccl_check(
                ncclSend(a->own + a->bounds[s] + at, count, ncclFloat32, s, g->shards, g->stream));
        if (expected > 0)
            nccl_check(ncclRecv(g->received + (int64_t)(s < own ? s : s - 1) * PIECE, expected,
                                ncclFloat32, s, g->shards, g->stream));
    }
    nccl_check(ncclGroupEnd());
}

static void sum_piece(const struct group *g, const struct sum_slices_args *a, int64_t at)
{
    const struct group_options *o = &g->options;
    const int64_t count = piece_of(a->bounds, o->shard, at);
    const operands x = {a->own + a->bounds[o->shard] + at, g->received, o->shard, o->shards,
                        a->first || o->hosts > 1};
    if (o->shards > 1)
        exchange(g, a, at);
    if (count == 0)
        return;
    if (o->hosts == 1) {
        launch_sum(g, x, a->total + at, count);
        return;
    }
    /* What the total holds already must not be added once per host. */
    launch_sum(g, x, g->summed, count);
    nccl_check(ncclAllReduce(g->summed, g->summed, (size_t)count, ncclFloat32, ncclSum, g->hosts,
                             g->stream));
    launch_sum(g, {g->summed, nullptr, 0, 1, a->first}, a->total + at, count);
}

static void sum_slices(struct device *d, const struct sum_slices_args *a)
{
    const struct group *g = fork_from(d);
    int64_t longest = 0;
    for (int s = 0; s < g->options.shards; s++)
        if (a->bounds[s + 1] - a->bounds[s] > longest)
            longest = a->bounds[s + 1] - a->bounds[s];
    for (int64_t at = 0; at < longest; at += PIECE)
        sum_piece(g, a, at);
}

/* ---- shares */

static void share_slices(struct device *d, const struct share_slices_args *a)
{
    const struct group *g = fork_from(d);
    const int64_t *b = a->bounds, length = b[1] - b[0];
    const int own = g->options.shard, shards = g->options.shards;
    char *whole = (char *)a->whole;
    bool equal = true;
    if (shards == 1)
        return;
    for (int s = 1; s < shards; s++)
        equal &= b[s + 1] - b[s] == length;
    if (equal) {
        if (length > 0)
            nccl_check(ncclAllGather(whole + (size_t)b[own] * a->element,
                                     whole + (size_t)b[0] * a->element, (size_t)length * a->element,
                                     ncclUint8, g->shards, g->stream));
        return;
    }
    nccl_check(ncclGroupStart());
    for (int s = 0; s < shards; s++) {
        char *slice = whole + (size_t)b[s] * a->element;
        if (b[s + 1] > b[s])
            nccl_check(ncclBroadcast(slice, slice, (size_t)(b[s + 1] - b[s]) * a->element,
                                     ncclUint8, s, g->shards, g->stream));
    }
    nccl_check(ncclGroupEnd());
}

const struct group_functions cuda_group = {new_id, open, sum_slices, share_slices, join, close};
