#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <stdlib.h>
#include <thread>
#include <vector>

#include "kernels/cuda/cuda.cuh"
#include "tests/cuda-host/streams.h"

using cuda_host::failed;
using cuda_host::guard;
using cuda_host::lock;

typedef std::chrono::steady_clock steady;
typedef std::vector<size_t> node_list;

/* A place in a stream's work. */
struct mark {
    cudaStream_t in;
    bool reached;
    steady::time_point when;
};
typedef std::shared_ptr<mark> mark_reference;

/* Runs a function, or waits for a mark. */
struct task {
    std::function<void()> run;
    mark_reference after;
};

struct node {
    std::function<void()> run;
    node_list after;
    cudaStream_t captured_from;
};
struct capture {
    cudaStreamCaptureMode mode;
    cudaStream_t origin;
    std::vector<node> nodes;
    bool invalid, ended;
};
typedef std::shared_ptr<capture> capture_reference;

struct cuda_host_stream {
    bool follows_default;
    int device;
    std::deque<task> pending;
    capture_reference into;
    node_list last; /* what the next node follows */
};
struct cuda_host_event {
    capture_reference recorded_in;
    node_list last;
    mark_reference at;
};
struct cuda_host_graph {
    capture_reference from;
};
struct cuda_host_graph_exec {
    capture_reference from;
};

/* The following are never destroyed, because the background thread runs until the end. */
std::recursive_mutex &cuda_host::lock = *new std::recursive_mutex;
static cuda_host_stream &default_stream = *new cuda_host_stream{};
static std::vector<cudaStream_t> &streams = *new std::vector<cudaStream_t>{&default_stream};
static std::vector<capture_reference> &captures = *new std::vector<capture_reference>;
static bool running;
static size_t enqueued; /* since everything was run */
static std::atomic<unsigned> calls;

static cudaStream_t or_default(cudaStream_t stream)
{
    return stream ? stream : &default_stream;
}

/* ---- order */

static bool others_early()
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
        if (idle < 10)
            continue;
        guard held(lock);
        cuda_host::run_all();
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

static void record_node(cudaStream_t stream, std::function<void()> run)
{
    capture *c = stream->into.get();
    if (c->invalid)
        cuda_die("emulated CUDA: work for a stream whose capture has failed");
    c->nodes.push_back({std::move(run), stream->last, stream});
    stream->last = {c->nodes.size() - 1};
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
    if (cuda_host::is_captured(stream)) {
        record_node(stream, std::move(run));
        return;
    }
    if (!stream && !captures.empty())
        cuda_die("emulated CUDA: work for the default stream during a capture");
    follow_default(or_default(stream));
    or_default(stream)->pending.push_back({std::move(run), nullptr});
    if (blocking())
        cuda_host::run_stream(stream);
    else if (++enqueued >= 1024)
        cuda_host::run_all();
}

/* ---- streams and events */

bool cuda_host::is_captured(cudaStream_t stream)
{
    return stream && stream->into;
}

bool cuda_host::refused_by_capture()
{
    bool refused = false;
    calls++;
    if (cuda_host::here.capture_mode == cudaStreamCaptureModeRelaxed)
        return false;
    for (const capture_reference &c : captures)
        if (c->mode != cudaStreamCaptureModeRelaxed)
            refused = c->invalid = true;
    return refused;
}

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
    cuda_host::run_all();
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    guard held(lock);
    if (cuda_host::refused_by_capture() || cuda_host::is_captured(stream))
        return failed(cudaErrorStreamCaptureUnsupported);
    cuda_host::run_stream(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    return cudaStreamSynchronize(stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*f)(void *), void *argument)
{
    cuda_host::host_task(stream, [=] { f(argument); });
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
    if (!cuda_host::is_captured(stream)) {
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
    if (cuda_host::refused_by_capture())
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

/* Work captured from `stream` follows the event, and joins its capture. */
static cudaError_t wait_in_capture(cudaStream_t stream, cudaEvent_t event)
{
    const capture_reference c = event->recorded_in;
    if (c->ended)
        return cudaErrorCapturedEvent;
    if (c->invalid)
        return cudaErrorStreamCaptureInvalidated;
    if (!stream || (stream->into && stream->into != c)) {
        c->invalid = true;
        return stream ? cudaErrorStreamCaptureIsolation : cudaErrorStreamCaptureImplicit;
    }
    if (!stream->into)
        stream->last.clear();
    stream->into = c;
    stream->last.insert(stream->last.end(), event->last.begin(), event->last.end());
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
    if (cuda_host::is_captured(stream)) {
        stream->into->invalid = true;
        return failed(cudaErrorStreamCaptureIsolation);
    }
    if (event->at)
        or_default(stream)->pending.push_back({nullptr, event->at});
    return cudaSuccess;
}

/* ---- graphs */

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    const cudaStreamCaptureMode before = (cudaStreamCaptureMode)cuda_host::here.capture_mode;
    cuda_host::here.capture_mode = *mode;
    *mode = before;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    guard held(lock);
    if (!stream || stream->into)
        return failed(cudaErrorStreamCaptureUnsupported);
    stream->into = std::make_shared<capture>(capture{mode, stream, {}, false, false});
    stream->last.clear();
    captures.push_back(stream->into);
    return cudaSuccess;
}

/* Which of the first nodes, in topological order, must run before `last` do. */
static std::vector<bool> ancestors(const std::vector<node> &nodes, const node_list &last)
{
    std::vector<bool> needed(nodes.size());
    for (size_t i : last)
        needed[i] = true;
    for (size_t i = nodes.size(); i-- > 0;)
        for (size_t before : nodes[i].after)
            if (needed[i])
                needed[before] = true;
    return needed;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    guard held(lock);
    *graph = nullptr;
    if (!stream || !stream->into || stream->into->origin != stream)
        return failed(cudaErrorStreamCaptureUnmatched);
    const capture_reference c = stream->into;
    const std::vector<bool> joined = ancestors(c->nodes, stream->last);
    for (cudaStream_t s : streams)
        if (s->into == c)
            s->into = nullptr;
    captures.erase(std::find(captures.begin(), captures.end(), c));
    c->ended = true;
    if (c->invalid)
        return failed(cudaErrorStreamCaptureInvalidated);
    if (std::count(joined.begin(), joined.end(), false) > 0)
        return failed(cudaErrorStreamCaptureUnjoined);
    *graph = new cuda_host_graph{c};
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    guard held(lock);
    const capture *c = stream ? stream->into.get() : nullptr;
    *status = !c           ? cudaStreamCaptureStatusNone
              : c->invalid ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    const char *asked = getenv("CCLD_EMULATED_GRAPHS");
    if (asked && *asked == '0')
        return failed(cudaErrorNotSupported);
    *exec = new cuda_host_graph_exec{graph->from};
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}

/* Runs the nodes of one kind of branch, the first stream's or the others', each with what it needs.
 */
static void run_branch(const capture &c, bool origin, std::vector<bool> &done)
{
    for (size_t i = 0; i < c.nodes.size(); i++) {
        if (done[i] || (c.nodes[i].captured_from == c.origin) != origin)
            continue;
        bool ready = true;
        for (size_t before : c.nodes[i].after)
            ready &= done[before];
        const std::vector<bool> needed = ready ? std::vector<bool>() : ancestors(c.nodes, {i});
        for (size_t j = ready ? i : 0; j <= i; j++)
            if (!done[j] && (ready || needed[j])) {
                c.nodes[j].run();
                done[j] = true;
            }
    }
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    const capture_reference c = exec->from;
    cuda_host::host_task(stream, [c] {
        std::vector<bool> done(c->nodes.size());
        const bool early = others_early();
        run_branch(*c, !early, done);
        run_branch(*c, early, done);
    });
    return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cuda_host_node *, size_t *count)
{
    *count = graph->from->nodes.size();
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
