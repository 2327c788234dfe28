#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <stdlib.h>
#include <vector>

#include "kernels/cuda/cuda.cuh"

typedef std::shared_ptr<std::vector<std::function<void()>>> task_list;

struct capture {
    cudaStreamCaptureMode mode;
    cudaStream_t origin;
    task_list tasks;
    bool invalid;
};
struct cuda_host_stream {
    capture *into;
};
struct cuda_host_event {
    capture *recorded_in; /* a capture, not a run */
    bool done;
    std::chrono::steady_clock::time_point when;
};
struct cuda_host_graph {
    task_list tasks;
};
struct cuda_host_graph_exec {
    task_list tasks;
};

static std::recursive_mutex lock;
typedef std::lock_guard<std::recursive_mutex> guard;
/* Work of all streams in the order of the calls, which satisfies all dependencies. */
static std::vector<std::function<void()>> begun;
static bool running;
static std::vector<cudaStream_t> streams;
static std::vector<capture *> captures;
static std::map<const char *, size_t> device_blocks, pinned_blocks;
static size_t in_use;
static cudaError_t last_error;

static cudaError_t failed(cudaError_t e)
{
    return last_error = e;
}

/* ---- order */

static void run_all()
{
    if (running)
        cuda_die("emulated CUDA: a task on a stream calls the runtime");
    running = true;
    for (size_t i = 0; i < begun.size(); i++) {
        begun[i]();
        begun[i] = nullptr;
    }
    begun.clear();
    running = false;
}

static bool blocking()
{
    static const char *asked = getenv("CUDA_LAUNCH_BLOCKING");
    return asked && *asked == '1';
}

void cuda_host::host_task(cudaStream_t stream, std::function<void()> task)
{
    guard held(lock);
    if (stream && stream->into) {
        stream->into->tasks->push_back(std::move(task));
        return;
    }
    if (!stream && !captures.empty())
        cuda_die("emulated CUDA: work for the default stream during a capture");
    begun.push_back(std::move(task));
    if (blocking() || begun.size() >= 1024)
        run_all();
}

/* Calls that wait, or may wait, are refused during a capture and invalidate it. */
static bool refused_by_capture()
{
    bool refused = false;
    if (cuda_host::here.capture_mode == cudaStreamCaptureModeRelaxed)
        return false;
    for (capture *c : captures)
        if (c->mode != cudaStreamCaptureModeRelaxed)
            refused = c->invalid = true;
    return refused;
}

/* ---- errors */

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
    case cudaErrorNotReady:
        return "device not ready";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnmatched:
        return "the capture was not initiated in this stream";
    }
    return "unrecognized error code";
}
const char *cudaGetErrorName(cudaError_t e)
{
    return cudaGetErrorString(e);
}
cudaError_t cudaGetLastError()
{
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError()
{
    return last_error;
}

/* ---- the device */

static size_t memory_bytes()
{
    static const char *asked = getenv("CCLD_EMULATED_MEMORY");
    return asked ? strtoull(asked, nullptr, 10) : (size_t)80 << 30;
}
static int pretended(const char *name, int otherwise)
{
    const char *asked = getenv(name);
    return asked ? atoi(asked) : otherwise;
}
static int gpus()
{
    return pretended("CCLD_EMULATED_GPUS", 1);
}
cudaError_t cudaGetDeviceCount(int *count)
{
    int driver;
    cudaDriverGetVersion(&driver);
    *count = 0;
    if (driver < CUDART_VERSION)
        return failed(cudaErrorInsufficientDriver);
    if (gpus() == 0)
        return failed(cudaErrorNoDevice);
    *count = gpus();
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    return device >= 0 && device < gpus() ? cudaSuccess : failed(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= gpus())
        return failed(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated");
    p->totalGlobalMem = memory_bytes();
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->major = pretended("CCLD_EMULATED_CAPABILITY", 90) / 10;
    p->minor = pretended("CCLD_EMULATED_CAPABILITY", 90) % 10;
    p->multiProcessorCount = 8;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->l2CacheSize = 50 << 20;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = INT_MAX;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, device) != cudaSuccess)
        return cudaErrorInvalidDevice;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        return cudaSuccess;
    }
    return failed(cudaErrorInvalidValue);
}
cudaError_t cudaDriverGetVersion(int *version)
{
    *version = pretended("CCLD_EMULATED_DRIVER", CUDART_VERSION);
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize()
{
    guard held(lock);
    if (refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    run_all();
    return cudaSuccess;
}
cudaError_t cudaDeviceReset()
{
    return cudaDeviceSynchronize();
}
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total)
{
    guard held(lock);
    *total = memory_bytes();
    *unused = *total - in_use;
    return cudaSuccess;
}

/* ---- memory */

/* Ends exactly at the requested size, so that AddressSanitizer detects accesses beyond. */
static void *aligned_bytes(size_t bytes)
{
    void *p;
    return posix_memalign(&p, 512, bytes) ? nullptr : p;
}
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    guard held(lock);
    *p = nullptr;
    if (refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    if (!bytes)
        return cudaSuccess;
    if (bytes > memory_bytes() - in_use || !(*p = aligned_bytes(bytes)))
        return failed(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    device_blocks[(const char *)*p] = bytes;
    in_use += bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    guard held(lock);
    if (!p)
        return cudaSuccess;
    if (refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    run_all();
    auto found = device_blocks.find((const char *)p);
    if (found == device_blocks.end())
        return failed(cudaErrorInvalidValue);
    in_use -= found->second;
    device_blocks.erase(found);
    free(p);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t bytes, unsigned)
{
    guard held(lock);
    *p = nullptr;
    if (!bytes)
        return cudaSuccess;
    if (!(*p = aligned_bytes(bytes)))
        return failed(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    pinned_blocks[(const char *)*p] = bytes;
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    return cudaMallocHost(p, bytes, flags);
}
cudaError_t cudaFreeHost(void *p)
{
    guard held(lock);
    if (!p)
        return cudaSuccess;
    run_all();
    if (!pinned_blocks.erase((const char *)p))
        return failed(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}

/* 1: p[bytes] is within one of the blocks; 0: outside all; -1: partly within, or beyond its block.
 */
static int lies_in(const std::map<const char *, size_t> &blocks, const void *p, size_t bytes)
{
    const char *c = (const char *)p;
    auto after = blocks.upper_bound(c);
    if (after != blocks.end() && c + bytes > after->first)
        return -1;
    if (after == blocks.begin())
        return 0;
    --after;
    if (c >= after->first + after->second)
        return 0;
    return c + bytes <= after->first + after->second ? 1 : -1;
}

static cudaError_t copy(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                        size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    guard held(lock);
    if (!width || !height)
        return cudaSuccess;
    const int to = lies_in(device_blocks, dst, (height - 1) * dst_pitch + width);
    const int from = lies_in(device_blocks, src, (height - 1) * src_pitch + width);
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to < 0 || from < 0 ||
        (kind != cudaMemcpyDefault && (to_device != to || from_device != from)))
        return failed(cudaErrorInvalidValue);
    cuda_host::host_task(stream, [=] {
        for (size_t i = 0; i < height; i++)
            memmove((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width);
    });
    /* Copies from and to pageable memory are complete when the call returns. */
    const bool pageable = (!to && lies_in(pinned_blocks, dst, 1) != 1) ||
                          (!from && lies_in(pinned_blocks, src, 1) != 1);
    if (pageable && !(stream && stream->into))
        run_all();
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return copy(dst, bytes, src, bytes, bytes, 1, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    if (width > dst_pitch || width > src_pitch)
        return failed(cudaErrorInvalidValue);
    return copy(dst, dst_pitch, src, src_pitch, width, height, kind, stream);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    guard held(lock);
    if (refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    const cudaError_t e = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    if (e == cudaSuccess)
        run_all();
    return e;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    guard held(lock);
    if (!bytes)
        return cudaSuccess;
    if (lies_in(device_blocks, p, bytes) != 1)
        return failed(cudaErrorInvalidValue);
    cuda_host::host_task(stream, [=] { memset(p, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

/* ---- streams and events */

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    guard held(lock);
    *stream = new cuda_host_stream{nullptr};
    streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    return cudaStreamCreate(stream);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int)
{
    return cudaStreamCreate(stream);
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
    if (refused_by_capture() || (stream && stream->into))
        return failed(cudaErrorStreamCaptureUnsupported);
    run_all();
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
    *event = new cuda_host_event{nullptr, true, {}};
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    return cudaEventCreate(event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    guard held(lock);
    run_all();
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    guard held(lock);
    event->recorded_in = stream ? stream->into : nullptr;
    if (event->recorded_in)
        return cudaSuccess;
    event->done = false;
    cuda_host::host_task(stream, [=] {
        event->when = std::chrono::steady_clock::now();
        event->done = true;
    });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    guard held(lock);
    if (event->recorded_in || refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    if (!event->done)
        run_all();
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    guard held(lock);
    if (!start->done || !end->done)
        return failed(cudaErrorNotReady);
    *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    guard held(lock);
    if (event->recorded_in) {
        if (!stream || (stream->into && stream->into != event->recorded_in))
            return failed(cudaErrorStreamCaptureUnsupported);
        stream->into = event->recorded_in;
    }
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
    stream->into = new capture{mode, stream, std::make_shared<task_list::element_type>(), false};
    captures.push_back(stream->into);
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    guard held(lock);
    *graph = nullptr;
    if (!stream || !stream->into || stream->into->origin != stream)
        return failed(cudaErrorStreamCaptureUnmatched);
    capture *c = stream->into;
    for (cudaStream_t s : streams)
        if (s->into == c)
            s->into = nullptr;
    captures.erase(std::find(captures.begin(), captures.end(), c));
    const bool invalid = c->invalid;
    if (!invalid)
        *graph = new cuda_host_graph{c->tasks};
    delete c;
    return invalid ? failed(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    guard held(lock);
    const capture *c = stream ? stream->into : nullptr;
    *status = !c           ? cudaStreamCaptureStatusNone
              : c->invalid ? cudaStreamCaptureStatusInvalidated
                           : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new cuda_host_graph_exec{graph->tasks};
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    const task_list tasks = exec->tasks;
    cuda_host::host_task(stream, [=] {
        for (const auto &task : *tasks)
            task();
    });
    return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cuda_host_node *, size_t *count)
{
    *count = graph->tasks->size();
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
