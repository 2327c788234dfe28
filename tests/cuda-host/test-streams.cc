/* Tests that the emulator orders streams by events only, in captures as well, so that a forgotten
 * wait gives wrong numbers. TAP. */
#include <atomic>
#include <thread>

#include "tests/cuda-host/streams.h"
#include "tests/cuda-host/testing.h"

static const char *const orders[2] = {"early", "late"};
static cudaStream_t side;
static cudaEvent_t fork_event, join_event;

static void later(cudaStream_t s, std::function<void()> task)
{
    cuda_host::host_task(s, std::move(task));
}
static void fork_side()
{
    cuda_check(cudaEventRecord(fork_event, stream));
    cuda_check(cudaStreamWaitEvent(side, fork_event));
}
static void join_side()
{
    cuda_check(cudaEventRecord(join_event, side));
    cuda_check(cudaStreamWaitEvent(stream, join_event));
}

/* Two rounds in which `side` reads what `stream` wrote and the other way round. The given wait of
 * the second round, counted from 1, is left out. */
static bool rounds_right(int forgotten, bool captured, const char *order)
{
    int x = 0, y = 0, z = 0;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    setenv("CCLD_EMULATED_ORDER", order, 1);
    if (captured)
        cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int round = 0; round < 2; round++) {
        later(stream, [&, round] { x = 10 + round; });
        if (!(round == 1 && forgotten == 1))
            fork_side();
        later(side, [&] { y = 2 * x; });
        if (!(round == 1 && forgotten == 2))
            join_side();
        later(stream, [&] {
            z = z * 100 + y;
            x = -1;
        });
    }
    join_side();
    if (captured) {
        cuda_check(cudaStreamEndCapture(stream, &graph));
        cuda_check(cudaGraphInstantiate(&exec, graph));
        cuda_check(cudaGraphLaunch(exec, stream));
    }
    cuda_check(cudaStreamSynchronize(stream));
    if (captured) {
        cuda_check(cudaGraphExecDestroy(exec));
        cuda_check(cudaGraphDestroy(graph));
    }
    unsetenv("CCLD_EMULATED_ORDER");
    return z == 2022 && y == 22;
}

static void test_waits(bool captured)
{
    const char *where = captured ? "a graph" : "streams";
    tap_ok(rounds_right(0, captured, "early") && rounds_right(0, captured, "late"),
           "%s with all waits: right in either order", where);
    for (int forgotten = 1; forgotten <= 2; forgotten++)
        tap_ok(!rounds_right(forgotten, captured, orders[forgotten - 1]),
               "%s: forgetting to wait for the %s stream shows when others run %s", where,
               forgotten == 1 ? "first" : "second", orders[forgotten - 1]);
    int wrong = 0;
    for (int i = 0; i < 64; i++)
        wrong += !rounds_right(1 + i % 2, captured, "");
    tap_ok(wrong > 16 && wrong < 64, "%s: without a set order it shows often: %d of 64", where,
           wrong);
}

/* A stream that nothing waits for runs late; its memory must not be reused before. */
static void test_late()
{
    int ran = 0;
    setenv("CCLD_EMULATED_ORDER", "late", 1);
    later(side, [&] { ran = 1; });
    cuda_check(cudaStreamSynchronize(stream));
    tap_ok(ran == 0, "waiting for one stream does not run another");
    cuda_check(cudaStreamSynchronize(side));
    later(side, [&] { ran = 2; });
    fork_side();
    later(side, [&] { ran = 3; });
    cuda_check(cudaEventSynchronize(fork_event));
    const bool waited = ran == 1;
    cuda_check(cudaDeviceSynchronize());
    tap_ok(waited && ran == 3, "waiting for an event runs what precedes it");
    unsetenv("CCLD_EMULATED_ORDER");
}

static void test_default_stream()
{
    cudaStream_t follows;
    cuda_check(cudaStreamCreate(&follows));
    bool ordered = true;
    for (const char *order : orders) {
        setenv("CCLD_EMULATED_ORDER", order, 1);
        int x = 0;
        later(
            nullptr, [&] { x = x * 10 + 1; });
        later(
            follows, [&] { x = x * 10 + 2; });
        later(nullptr, [&] { x = x * 10 + 3; });
        cuda_check(cudaDeviceSynchronize());
        ordered &= x == 123;
    }
    unsetenv("CCLD_EMULATED_ORDER");
    cuda_check(cudaStreamDestroy(follows));
    tap_ok(ordered, "the default stream and blocking streams follow each other");
}

static cudaError_t end_capture()
{
    cudaGraph_t graph;
    const cudaError_t e = cudaStreamEndCapture(stream, &graph);
    if (e == cudaSuccess)
        cuda_check(cudaGraphDestroy(graph));
    return e;
}
static void begin_capture()
{
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

static void test_captures()
{
    begin_capture();
    fork_side();
    later(side, [] {});
    tap_ok(end_capture() == cudaErrorStreamCaptureUnjoined,
           "unjoined work ends a capture in error");
    begin_capture();
    fork_side();
    later(side, [] {});
    join_side();
    later(side, [] {});
    tap_ok(end_capture() == cudaErrorStreamCaptureUnjoined, "so does work after the join");
    begin_capture();
    fork_side();
    join_side();
    tap_ok(end_capture() == cudaSuccess, "a fork without work needs no join, but may have one");

    tap_ok(cudaEventSynchronize(fork_event) == cudaErrorCapturedEvent &&
               cudaStreamWaitEvent(side, fork_event) == cudaErrorCapturedEvent,
           "an event recorded in a capture cannot be waited for outside");
    cuda_check(cudaEventRecord(join_event, side));
    begin_capture();
    tap_ok(cudaStreamWaitEvent(stream, join_event) == cudaErrorStreamCaptureIsolation &&
               cudaEventRecord(fork_event, stream) == cudaErrorStreamCaptureInvalidated &&
               end_capture() == cudaErrorStreamCaptureInvalidated,
           "nor one from outside in a capture");
    begin_capture();
    cuda_check(cudaEventRecord(fork_event, stream));
    tap_ok(cudaStreamWaitEvent(nullptr, fork_event) == cudaErrorStreamCaptureImplicit &&
               end_capture() == cudaErrorStreamCaptureInvalidated,
           "the default stream cannot join a capture");
    cuda_check(cudaStreamBeginCapture(side, cudaStreamCaptureModeThreadLocal));
    begin_capture();
    cuda_check(cudaEventRecord(fork_event, stream));
    tap_ok(cudaStreamWaitEvent(side, fork_event) == cudaErrorStreamCaptureIsolation &&
               end_capture() == cudaErrorStreamCaptureInvalidated,
           "one capture cannot wait for another");
    cudaGraph_t graph;
    cuda_check(cudaStreamEndCapture(side, &graph));
    cudaGraphExec_t exec;
    setenv("CCLD_EMULATED_GRAPHS", "0", 1);
    tap_ok(cudaGraphInstantiate(&exec, graph) == cudaErrorNotSupported,
           "with CCLD_EMULATED_GRAPHS=0 graphs cannot be instantiated");
    unsetenv("CCLD_EMULATED_GRAPHS");
    cuda_check(cudaGraphDestroy(graph));
    refused("work after a capture has failed", "whose capture has failed", [] {
        void *p;
        begin_capture();
        cudaMalloc(&p, 16);
        later(stream, [] {});
    });
    cudaGetLastError();
}

static void test_devices()
{
    setenv("CCLD_EMULATED_GPUS", "2", 1);
    int count, current;
    cuda_check(cudaGetDeviceCount(&count));
    cuda_check(cudaSetDevice(1));
    cuda_check(cudaGetDevice(&current));
    tap_ok(count == 2 && current == 1 && cudaSetDevice(2) == cudaErrorInvalidDevice,
           "two devices, of which one is current");
    refused("work for another device's stream", "a stream of GPU 0 while GPU 1 is current",
            [] { later(stream, [] {}); });
    cuda_check(cudaSetDevice(0));
    cudaGetLastError();
    unsetenv("CCLD_EMULATED_GPUS");
}

static void test_background()
{
    std::atomic<bool> ran{false};
    later(stream, [&] { ran = true; });
    cuda_host::run_in_background();
    for (int i = 0; i < 500 && !ran; i++)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    tap_ok(ran, "the background thread runs what nothing waits for");
}

int main()
{
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    cuda_check(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    cuda_check(cudaEventCreateWithFlags(&fork_event, cudaEventDisableTiming));
    cuda_check(cudaEventCreateWithFlags(&join_event, cudaEventDisableTiming));
    test_waits(false);
    test_waits(true);
    test_late();
    test_default_stream();
    test_captures();
    test_devices();
    test_background();
    cuda_check(cudaEventDestroy(fork_event));
    cuda_check(cudaEventDestroy(join_event));
    cuda_check(cudaStreamDestroy(side));
    cuda_check(cudaStreamDestroy(stream));
    return tap_done();
}
