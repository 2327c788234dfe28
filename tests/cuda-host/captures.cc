#include <algorithm>
#include <stdlib.h>

#include "kernels/cuda/cuda.cuh"
#include "tests/cuda-host/captures.h"

using namespace cuda_host;

static std::vector<capture_reference> &captures = *new std::vector<capture_reference>;

/* ---- streams in a capture */

bool cuda_host::any_capture()
{
    return !captures.empty();
}

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

void cuda_host::record_node(cudaStream_t stream, std::function<void()> run)
{
    capture *c = stream->into.get();
    if (c->invalid)
        cuda_die("emulated CUDA: work for a stream whose capture has failed");
    c->nodes.push_back({std::move(run), stream->last, stream});
    stream->last = {c->nodes.size() - 1};
}

cudaError_t cuda_host::wait_in_capture(cudaStream_t stream, cudaEvent_t event)
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

/* ---- captures and graphs */

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
