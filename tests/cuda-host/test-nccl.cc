/* Tests the emulated NCCL between processes: what calls transfer, and what it must notice. TAP. */
#include <signal.h>

#include <chrono>
#include <thread>

#include "kernels/cuda/nccl.h"
#include "tests/cuda-host/testing.h"

#define FUNCTION(name, result, parameters) extern "C" result name parameters;
NCCL_FUNCTIONS
#undef FUNCTION

static void nccl_check(ncclResult_t result)
{
    if (result != ncclSuccess)
        cuda_die("%s: %s", ncclGetErrorString(result), ncclGetLastError(nullptr));
}

struct rank_process {
    int rank, size;
    ncclComm_t comm;
    cudaStream_t side;
    cudaEvent_t fork_event, join_event;
    void fork_side() const
    {
        cuda_check(cudaEventRecord(fork_event, stream));
        cuda_check(cudaStreamWaitEvent(side, fork_event));
    }
    void join_side() const
    {
        cuda_check(cudaEventRecord(join_event, side));
        cuda_check(cudaStreamWaitEvent(stream, join_event));
    }
};
/* Returns whether all was right. */
typedef std::function<bool(const rank_process &)> rank_function;

static bool run_rank(const ncclUniqueId &id, int rank, int size, const rank_function &f)
{
    rank_process p = {rank, size, nullptr, nullptr, nullptr, nullptr};
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    cuda_check(cudaStreamCreateWithFlags(&p.side, cudaStreamNonBlocking));
    cuda_check(cudaEventCreateWithFlags(&p.fork_event, cudaEventDisableTiming));
    cuda_check(cudaEventCreateWithFlags(&p.join_event, cudaEventDisableTiming));
    nccl_check(ncclCommInitRank(&p.comm, size, id, rank));
    const bool right = f(p);
    nccl_check(ncclCommDestroy(p.comm));
    return right;
}

struct outcome {
    int right, failed; /* ranks */
    std::string said;
    double seconds;
};

/* Runs f in as many processes as there are ranks, whose messages it collects. */
static outcome run_ranks(int size, const rank_function &f)
{
    const auto begin = std::chrono::steady_clock::now();
    outcome o = {};
    ncclUniqueId id;
    int ends[2];
    nccl_check(ncclGetUniqueId(&id));
    if (pipe(ends))
        cuda_die("pipe failed");
    fflush(stdout);
    for (int rank = 0; rank < size; rank++)
        if (fork() == 0) {
            dup2(ends[1], 2);
            close(ends[0]);
            close(ends[1]);
            _exit(run_rank(id, rank, size, f) ? 0 : 9);
        }
    close(ends[1]);
    char text[1024];
    for (ssize_t n; (n = read(ends[0], text, sizeof text)) > 0;)
        o.said.append(text, (size_t)n);
    close(ends[0]);
    for (int rank = 0, status; rank < size; rank++) {
        wait(&status);
        o.right += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        o.failed += !WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 9);
    }
    o.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return o;
}

static void all_right(int size, const char *title, const rank_function &f)
{
    const outcome o = run_ranks(size, f);
    if (!tap_ok(o.right == size, "%d ranks: %s", size, title))
        tap_diag("%s", o.said.c_str());
}

/* All ranks must end in time, and one must say `text`. */
static void noticed(int size, const char *title, const char *text, const rank_function &f)
{
    const outcome o = run_ranks(size, f);
    const bool told = o.said.find(text) != std::string::npos;
    if (!tap_ok(told && o.failed > 0 && o.seconds < 20, "noticed: %s", title))
        tap_diag("%d failed after %.1f s: %s", o.failed, o.seconds, o.said.c_str());
}

/* ---- what is transferred */

static float value(int rank, size_t i)
{
    return (float)(rank + 1) * 1000.0f + (float)(i % 911) / 7;
}
static std::vector<float> values(int rank, size_t n)
{
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++)
        x[i] = value(rank, i);
    return x;
}

static bool passes_round(const rank_process &p, size_t n)
{
    const int to = (p.rank + 1) % p.size, from = (p.rank + p.size - 1) % p.size;
    device_array<float> x(values(p.rank, n)), y(n);
    nccl_check(ncclGroupStart());
    nccl_check(ncclSend(x.data, n, ncclFloat32, to, p.comm, stream));
    nccl_check(ncclRecv(y.data, n, ncclFloat32, from, p.comm, stream));
    nccl_check(ncclGroupEnd());
    return y.read() == values(from, n);
}

static bool gathers_all(const rank_process &p, size_t n)
{
    std::vector<float> right;
    for (int r = 0; r < p.size; r++)
        for (float f : values(r, n))
            right.push_back(f);
    device_array<float> x(values(p.rank, n)), y(n * (size_t)p.size);
    nccl_check(ncclAllGather(x.data, y.data, n, ncclFloat32, p.comm, stream));
    bool same = y.read() == right;
    device_array<float> z(n * (size_t)p.size); /* in place */
    cuda_check(cudaMemcpyAsync(z.data + n * (size_t)p.rank, x.data, n * sizeof(float),
                               cudaMemcpyDeviceToDevice, stream));
    nccl_check(
        ncclAllGather(z.data + n * (size_t)p.rank, z.data, 4 * n, ncclUint8, p.comm, stream));
    return same && z.read() == right;
}

static bool broadcasts(const rank_process &p, size_t n)
{
    bool same = true;
    for (int root = 0; root < p.size; root++) {
        device_array<float> x(values(p.rank, n));
        nccl_check(ncclBroadcast(x.data, x.data, n, ncclFloat32, root, p.comm, stream));
        same &= x.read() == values(root, n);
    }
    return same;
}

static bool sums(const rank_process &p, size_t n)
{
    device_array<float> x(values(p.rank, n));
    nccl_check(ncclAllReduce(x.data, x.data, n, ncclFloat32, ncclSum, p.comm, stream));
    const std::vector<float> y = x.read();
    for (size_t i = 0; i < n; i++) {
        float sum = value(0, i);
        for (int r = 1; r < p.size; r++)
            sum += value(r, i);
        if (y[i] != sum)
            return false;
    }
    return true;
}

static void test_transfers(int size)
{
    const size_t counts[] = {1, 7, 100003}; /* the last is more than a channel holds */
    const auto with_all = [&](bool (*f)(const rank_process &, size_t)) {
        return [f, &counts](const rank_process &p) {
            bool right = true;
            for (size_t n : counts)
                right &= f(p, n);
            return right;
        };
    };
    if (size > 1)
        all_right(size, "send and receive", with_all(passes_round));
    all_right(size, "all-gather, in place as well", with_all(gathers_all));
    all_right(size, "broadcast", with_all(broadcasts));
    all_right(size, "all-reduce", with_all(sums));
}

/* ---- waits between streams */

static __global__ void set(float *x, float to)
{
    x[threadIdx.x] = to;
}
static __global__ void copy_to(float *to, const float *from)
{
    to[threadIdx.x] = from[threadIdx.x];
}

/* Two rounds of: a kernel writes x; NCCL, on another stream, sums it; a kernel reads the sum and x
 * is overwritten. One wait of the second round is left out: 1 the fork, 2 the join. */
static bool overlapped(const rank_process &p, int forgotten, bool captured)
{
    device_array<float> x(32), sum(32), y(32);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    if (captured)
        cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int round = 0; round < 2; round++) {
        LAUNCH(set, 1, 32, 0, stream, x.data, (float)(p.rank + 10 * round));
        if (!(round == 1 && forgotten == 1))
            p.fork_side();
        nccl_check(ncclAllReduce(x.data, sum.data, 32, ncclFloat32, ncclSum, p.comm, p.side));
        if (!(round == 1 && forgotten == 2))
            p.join_side();
        LAUNCH(copy_to, 1, 32, 0, stream, y.data, (const float *)sum.data);
        LAUNCH(set, 1, 32, 0, stream, x.data, -1.0f);
    }
    p.join_side();
    if (captured) {
        cuda_check(cudaStreamEndCapture(stream, &graph));
        cuda_check(cudaGraphInstantiate(&exec, graph));
        for (int i = 0; i < 3; i++)
            cuda_check(cudaGraphLaunch(exec, stream));
    }
    const std::vector<float> got = y.read(), summed = sum.read();
    return got[5] == 21 && summed[5] == 21; /* 10 + 11 */
}

static void test_waits(bool captured)
{
    const char *how = captured ? "replayed" : "plain";
    const char *const orders[] = {"late", "early", "late"};
    for (int forgotten = 0; forgotten <= 2; forgotten++) {
        setenv("CCLD_EMULATED_ORDER", orders[forgotten], 1);
        const outcome o =
            run_ranks(2, [=](const rank_process &p) { return overlapped(p, forgotten, captured); });
        if (!tap_ok(o.right == (forgotten ? 0 : 2) && o.failed == 0, "%s: %s", how,
                    forgotten == 0   ? "NCCL beside kernels"
                    : forgotten == 1 ? "NCCL that does not wait for a kernel gives wrong sums"
                                     : "so does a kernel that does not wait for NCCL"))
            tap_diag("%d right, %d failed: %s", o.right, o.failed, o.said.c_str());
        unsetenv("CCLD_EMULATED_ORDER");
    }
    all_right(2, captured ? "replayed in any order" : "run in any order",
              [=](const rank_process &p) { return overlapped(p, 0, captured); });
}

/* ---- what must be noticed */

static void gather_n(const rank_process &p, float *x, size_t n)
{
    nccl_check(ncclAllGather(x, x + 256, n, ncclFloat32, p.comm, stream));
}
static void broadcast_n(const rank_process &p, float *x, size_t n, int root)
{
    nccl_check(ncclBroadcast(x, x, n, ncclFloat32, root, p.comm, stream));
}

/* Runs `usual`, except on the last rank. */
typedef std::function<void(const rank_process &, float *)> calls;
static rank_function differing(const calls &usual, const calls &last)
{
    return [=](const rank_process &p) {
        device_array<float> x(1024);
        (p.rank == p.size - 1 ? last : usual)(p, x.data);
        cuda_check(cudaStreamSynchronize(stream));
        return true;
    };
}

static void test_differences()
{
    const calls gather = [](const rank_process &p, float *x) { gather_n(p, x, 5); };
    noticed(3, "another call",
            "rank 0 calls ncclAllGather of 5 float (call 1), but rank 2 calls ncclBroadcast of 5 "
            "float from rank 0 (call 1)",
            differing(
                gather, [](const rank_process &p, float *x) { broadcast_n(p, x, 5, 0); }));
    noticed(2, "another count",
            "rank 0 calls ncclAllGather of 5 float (call 1), but rank 1 calls ncclAllGather of 6 "
            "float (call 1)",
            differing(
                gather, [](const rank_process &p, float *x) { gather_n(p, x, 6); }));
    noticed(2, "another type", "but rank 1 calls ncclAllGather of 5 uint8",
            differing(
                gather,
                [](const rank_process &p, float *x) {
                    nccl_check(ncclAllGather(x, x + 256, 5, ncclUint8, p.comm, stream));
                }));
    noticed(3, "another root", "but rank 2 calls ncclBroadcast of 5 float from rank 1",
            differing([](const rank_process &p, float *x) { broadcast_n(p, x, 5, 0); },
                      [](const rank_process &p, float *x) { broadcast_n(p, x, 5, 1); }));
    noticed(2, "another order", "but rank 1 calls ncclBroadcast of 5 float from rank 0",
            differing(
                [](const rank_process &p, float *x) {
                    gather_n(p, x, 5);
                    broadcast_n(p, x, 5, 0);
                },
                [](const rank_process &p, float *x) {
                    broadcast_n(p, x, 5, 0);
                    gather_n(p, x, 5);
                }));
    noticed(2, "send and receive of different counts",
            "rank 1 calls ncclRecv of 4 float from rank 0 (call 1), but rank 0 calls ncclSend of 5 "
            "float to rank 1 (call 1)",
            differing([](const rank_process &p,
                         float *x) { nccl_check(ncclSend(x, 5, ncclFloat32, 1, p.comm, stream)); },
                      [](const rank_process &p, float *x) {
                          nccl_check(ncclRecv(x, 4, ncclFloat32, 0, p.comm, stream));
                      }));
}

static void test_absences()
{
    const calls twice = [](const rank_process &p, float *x) {
        gather_n(p, x, 5);
        gather_n(p, x, 5);
    };
    noticed(3, "a rank that makes fewer calls",
            "waits for rank 2 in ncclAllGather of 5 float (call 2), but rank 2 has closed its "
            "communicator after 1 calls",
            differing(twice, [](const rank_process &p, float *x) { gather_n(p, x, 5); }));
    noticed(2, "a rank that ends",
            "rank 0 waits for rank 1 in ncclAllGather of 5 float (call 2), but rank 1 has ended "
            "after 1 calls",
            differing(
                twice,
                [](const rank_process &p, float *x) {
                    gather_n(p, x, 5);
                    cuda_check(cudaStreamSynchronize(stream));
                    _exit(0);
                }));
    noticed(2, "a rank that is killed", "but rank 1 has ended after 0 calls",
            differing(twice, [](const rank_process &, float *) { raise(SIGKILL); }));
    noticed(2, "ranks that wait for each other", " waits in ncclSend of 4 float to rank",
            [](const rank_process &p) {
                device_array<float> x(4);
                nccl_check(ncclSend(x.data, 4, ncclFloat32, 1 - p.rank, p.comm, stream));
                cuda_check(cudaStreamSynchronize(stream));
                return true;
            });
}

static void test_refused_calls()
{
    all_right(
        2, "calls refused: host memory, no such rank, a second one of a rank",
        [](const rank_process &p) {
            float host[4];
            device_array<float> x(4);
            ncclComm_t again;
            ncclUniqueId none = {};
            return ncclSend(host, 4, ncclFloat32, 1 - p.rank, p.comm, stream) ==
                       ncclInvalidArgument &&
                   ncclSend(x.data, 4, ncclFloat32, 2, p.comm, stream) == ncclInvalidArgument &&
                   ncclSend(x.data, 5, ncclFloat32, 1 - p.rank, p.comm, stream) ==
                       ncclInvalidArgument &&
                   ncclCommInitRank(&again, 2, none, 0) == ncclInvalidUsage &&
                   ncclGroupEnd() == ncclInvalidUsage;
        });
}

int main()
{
    for (int size = 1; size <= 4; size++)
        test_transfers(size);
    test_waits(false);
    test_waits(true);
    test_differences();
    test_absences();
    test_refused_calls();
    return tap_done();
}
