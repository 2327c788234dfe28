#include <algorithm>
#include <stdlib.h>
#include <thread>

#include "kernels/cuda/cuda.cuh"
#include "tests/cuda-host/captures.h"

using namespace cuda_host;

typedef std::chrono::steady_clock steady;

/* The following are never destroyed, because the background thread runs until the end. */
std::recursive_mutex &cuda_host::lock = *new std::recursive_mutex;
static cuda_host_stream &default_stream = *new cuda_host_stream{};
std::vector<cudaStream_t> &cuda_host::streams = *new std::vector<cudaStream_t>{&default_stream};
static bool running;
static size_t enqueued; /* since everything was run */
std::atomic<unsigned> cuda_host::calls;

static cudaStream_t or_default(cudaStream_t stream)
{
    return stream ? stream : &default_stream;
}

/* ---- order */

bool cuda_host::others_early()
{
    static uint32_t state = 1;
    const char *asked = getenv("CCLD_EMULATED_ORDER");
    if (asked && (!strcmp(asked, "early") || !strcmp(asked, "late")))
        return *asked == 'e';
    state = state * 1664525 + 1013904223;
    return state >> 31;
}

static void run_until(const mark &m)
{
    while (!m.reached) {
        const task first = std::move(m.in->pending.front());
        m.in->pending.pop_front();
        if (first.after)
            run_until(*first.after);
        else
            first.run();
    }
}

static mark_reference place_mark(cudaStream_t stream)
{
    const mark_reference m = std::make_shared<mark>(mark{stream, false, {}});
    stream->pending.push_back({[m] {
                                   m->when = steady::now();
                                   m->reached = true;
                               },
                               nullptr});
    return m;
}

static void drain(cudaStream_t stream)
{
    if (!stream->pending.empty())
        run_until(*place_mark(stream));
}

static void running_begins()
{
    if (running)
        cuda_die("emulated CUDA: a task on a stream calls the runtime");
    running = true;
}

/* Runs other work if it is the early ones' turn, then up to the mark. */
static void run_to(const mark &m)
{
    running_begins();
    if (others_early())
        for (cudaStream_t s : streams)
            if (s != m.in)
                drain(s);
    run_until(m);
    running = false;
}

void cuda_host::run_stream(cudaStream_t stream)
{
    if (!or_default(stream)->pending.empty())
        run_to(*place_mark(or_default(stream)));
}

void cuda_host::run_all()
{
    running_begins();
    std::vector<cudaStream_t> order = streams;
    if (others_early())
        std::reverse(order.begin(), order.end());
    for (cudaStream_t s : order)
        drain(s);
    enqueued = 0;
    running = false;
}

static void look_for_work()
{
    unsigned seen = 0;
    for (int idle = 0;;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        idle = calls == seen ? idle + 1 : 0;
        seen = calls;
        if (idle < 25) /* half a second */
            continue;
        guard held(lock);
        run_all();
    }
}

void cuda_host::run_in_background()
{
    static std::once_flag started;
    std::call_once(started, [] { std::thread(look_for_work).detach(); });
}

static bool blocking()
{
    static const char *asked = getenv("CUDA_LAUNCH_BLOCKING");
    return asked && *asked == '1';
}

/* The default stream and those that were not created as non-blocking wait for each other. */
static void follow(cudaStream_t later, cudaStream_t earlier)
{
    if (!earlier->pending.empty())
        later->pending.push_back({nullptr, place_mark(earlier)});
}
static void follow_default(cudaStream_t stream)
{
    if (stream->follows_default)
        follow(stream, &default_stream);
    if (stream == &default_stream)
        for (cudaStream_t s : streams)
            if (s->follows_default)
                follow(stream, s);
}

void cuda_host::host_task(cudaStream_t stream, std::function<void()> run)
{
    guard held(lock);
    int device;
    cudaGetDevice(&device);
    calls++;
    if (stream && stream->device != device)
        cuda_die("emulated CUDA: work for a stream of GPU %d while GPU %d is current",
                 stream->device, device);
    if (is_captured(stream)) {
        record_node(stream, std::move(run));
        return;
    }
    if (!stream && any_capture())
        cuda_die("emulated CUDA: work for the default stream during a capture");
    follow_default(or_default(stream));
    or_default(stream)->pending.push_back({std::move(run), nullptr});
    if (blocking())
        run_stream(stream);
    else if (++enqueued >= 1024)
        run_all();
}

/* ---- streams and events */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    guard held(lock);
    *stream = new cuda_host_stream{};
    (*stream)->follows_default = !(flags & cudaStreamNonBlocking);
    cudaGetDevice(&(*stream)->device);
    streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    guard held(lock);
    run_all();
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    guard held(lock);
    if (refused_by_capture() || is_captured(stream))
        return failed(cudaErrorStreamCaptureUnsupported);
    run_stream(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    return cudaStreamSynchronize(stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*f)(void *), void *argument)
{
    host_task(stream, [=] { f(argument); });
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = new cuda_host_event{};
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    guard held(lock);
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    guard held(lock);
    calls++;
    event->recorded_in = nullptr;
    if (!is_captured(stream)) {
        follow_default(or_default(stream));
        event->at = place_mark(or_default(stream));
        return cudaSuccess;
    }
    if (stream->into->invalid)
        return failed(cudaErrorStreamCaptureInvalidated);
    event->recorded_in = stream->into;
    event->last = stream->last;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    guard held(lock);
    if (event->recorded_in)
        return failed(cudaErrorCapturedEvent);
    if (refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    if (event->at && !event->at->reached)
        run_to(*event->at);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    guard held(lock);
    if (!start->at || !end->at)
        return failed(cudaErrorInvalidResourceHandle);
    if (!start->at->reached || !end->at->reached)
        return failed(cudaErrorNotReady);
    const auto apart = end->at->when - start->at->when;
    *milliseconds = std::chrono::duration<float, std::milli>(apart).count();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    guard held(lock);
    calls++;
    if (event->recorded_in) {
        const cudaError_t e = wait_in_capture(stream, event);
        return e == cudaSuccess ? e : failed(e);
    }
    if (is_captured(stream)) {
        stream->into->invalid = true;
        return failed(cudaErrorStreamCaptureIsolation);
    }
    if (event->at)
        or_default(stream)->pending.push_back({nullptr, event->at});
    return cudaSuccess;
}
