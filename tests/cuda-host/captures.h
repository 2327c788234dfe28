/* Streams, events and captures, shared by streams.cc and captures.cc. */
#ifndef CCLD_TESTS_CUDA_HOST_CAPTURES_H
#define CCLD_TESTS_CUDA_HOST_CAPTURES_H

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "tests/cuda-host/streams.h"

namespace cuda_host
{
typedef std::vector<size_t> node_list;

/* A place in a stream's work. */
struct mark {
    cudaStream_t in;
    bool reached;
    std::chrono::steady_clock::time_point when;
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
} // namespace cuda_host

struct cuda_host_stream {
    bool follows_default;
    int device;
    std::deque<cuda_host::task> pending;
    cuda_host::capture_reference into;
    cuda_host::node_list last; /* what the next node follows */
};
struct cuda_host_event {
    cuda_host::capture_reference recorded_in;
    cuda_host::node_list last;
    cuda_host::mark_reference at;
};
struct cuda_host_graph {
    cuda_host::capture_reference from;
};
struct cuda_host_graph_exec {
    cuda_host::capture_reference from;
};

namespace cuda_host
{
extern std::vector<cudaStream_t> &streams; /* in the order of their creation */
extern std::atomic<unsigned> calls;        /* of the runtime */

/* Whether it is the turn of streams, or branches of a graph, that are not waited for. */
bool others_early();

bool any_capture();
/* Work for a stream that is captured. */
void record_node(cudaStream_t stream, std::function<void()> run);
/* Work captured from `stream` follows the event, and joins its capture. */
cudaError_t wait_in_capture(cudaStream_t stream, cudaEvent_t event);
} // namespace cuda_host

#endif
