#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/staging.cuh"

#define LEAST_CAPABILITY 8 /* mma of bf16, cp.async */

const struct plugin_host *plugin_host;

static void *allocate(struct device *d, size_t bytes)
{
    /* A recording may have to grow its pool; the allocation itself is not recorded. */
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    void *p = NULL;
    cuda_check(cudaThreadExchangeStreamCaptureMode(&mode));
    cudaError_t result = cudaMalloc(&p, bytes);
    cuda_check(cudaThreadExchangeStreamCaptureMode(&mode));
    if (result == cudaSuccess)
        return p;
    cudaGetLastError();
    if (result != cudaErrorMemoryAllocation)
        cuda_check_result(result, "allocating memory of the GPU");
    return NULL;
}

static void synchronize(struct device *d)
{
    if (!cuda_of(d)->recording)
        group_settle(d);
    cuda_check_result(cudaStreamSynchronize(stream_of(d)), "waiting for the GPU");
}

static void deallocate(struct device *d, void *p)
{
    synchronize(d); /* pending work may use it */
    cuda_check(cudaFree(p));
}

static void memory(struct device *d, size_t *unused, size_t *total)
{
    cuda_check(cudaMemGetInfo(unused, total));
}

static void refuse_while_recording(const struct device *d, const char *what)
{
    if (cuda_of(d)->recording)
        plugin_host->die("CUDA backend: %s while work is recorded (a bug)", what);
}

static void upload(struct device *d, void *dst, const void *src, size_t bytes)
{
    refuse_while_recording(d, "upload");
    staging_upload(cuda_of(d)->staging, dst, src, bytes);
}

static void download(struct device *d, void *dst, const void *src, size_t bytes)
{
    refuse_while_recording(d, "download");
    staging_download(cuda_of(d)->staging, dst, src, bytes);
}

static void load_weight(struct device *d, const struct load_weight_args *a)
{
    refuse_while_recording(d, "upload");
    cuda_load_weight(d, a);
}

static void record_begin(struct device *d)
{
    refuse_while_recording(d, "another recording");
    group_settle(d); /* a recording cannot wait for work outside of it */
    cuda_check(cudaStreamBeginCapture(stream_of(d), cudaStreamCaptureModeThreadLocal));
    cuda_of(d)->recording = true;
}

/* If something could not be recorded, the work is run plainly. */
static void *record_end(struct device *d)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t recording = NULL;
    cuda_of(d)->recording = false;
    group_settle(d); /* if CUDA refuses, so it will below */
    cudaError_t result = cudaStreamEndCapture(stream_of(d), &graph);
    if (result == cudaSuccess)
        result = cudaGraphInstantiate(&recording, graph, 0);
    if (result == cudaSuccess)
        result = cudaGraphUpload(recording, stream_of(d));
    if (graph)
        cuda_check(cudaGraphDestroy(graph));
    if (result == cudaSuccess)
        return recording;
    plugin_host->note("cannot record work: %s", cudaGetErrorString(result));
    cudaGetLastError();
    if (recording)
        cuda_check(cudaGraphExecDestroy(recording));
    return NULL;
}

static void replay(struct device *d, void *recording)
{
    cuda_check_result(cudaGraphLaunch((cudaGraphExec_t)recording, stream_of(d)),
                      "replaying recorded work");
}

static void forget(struct device *d, void *recording)
{
    synchronize(d);
    cuda_check(cudaGraphExecDestroy((cudaGraphExec_t)recording));
}

static const char *model(struct device *d)
{
    static cudaDeviceProp properties;
    cuda_check(cudaGetDeviceProperties(&properties, cuda_of(d)->index));
    return properties.name;
}

static void close(struct device *d)
{
    struct cuda_device *cuda = cuda_of(d);
    synchronize(d);
    library_plans_free(cuda->plans);
    staging_free(cuda->staging);
    laps_free(cuda->laps);
    cuda_check(cudaFree(cuda->counters));
    cuda_check(cudaStreamDestroy(cuda->stream));
    free(cuda);
    d->state = NULL;
}

static void die_with(const char *line)
{
    plugin_host->die("%s", line);
}

extern "C" const char *ccld_cuda_backend(const struct plugin_host *host, struct backend *b)
{
    if (host->contract != plugin_contract(PLUGIN_BUILD_ID, plugin_ops, PLUGIN_OP_COUNT))
        return "it is of another version than the program";
    plugin_host = host;
    cuda_die_handler = die_with;
    b->name = "cuda";
    b->allocate = allocate;
    b->deallocate = deallocate;
    b->upload = upload;
    b->download = download;
    b->close = close;
    b->synchronize = synchronize;
    b->memory = memory;
    b->convert_weights = cuda_convert_weights;
    b->load_weight = load_weight;
    b->record_begin = record_begin;
    b->record_end = record_end;
    b->replay = replay;
    b->forget = forget;
    b->lap = cuda_lap;
    b->laps = cuda_laps;
    b->group = &cuda_group;
    b->model = model;
    b->fuses = b->bf16 = b->fp16 = true;
#define OP(name)          b->name = cuda_##name;
#define OP_TRAINING(name) b->name = cuda_##name;
#define OP_BACKWARD(name) b->name##_backward = cuda_##name##_backward;
#include "kernels/ops.def"
    return NULL;
}

extern "C" const char *ccld_cuda_count(int *count)
{
    static char why[256];
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        cudaGetLastError();
        return "there is no NVIDIA driver";
    }
    cudaError_t counted = cudaGetDeviceCount(count);
    if (counted == cudaErrorInsufficientDriver) {
        snprintf(why, sizeof why,
                 "the NVIDIA driver is too old: it is for CUDA %d.%d, and %d.%d is needed",
                 driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                 CUDART_VERSION % 1000 / 10);
        return why;
    }
    if (counted == cudaErrorNoDevice || (counted == cudaSuccess && *count == 0))
        return "there is no GPU";
    if (counted != cudaSuccess) {
        snprintf(why, sizeof why, "cannot count GPUs: %s", cudaGetErrorString(counted));
        return why;
    }
    return NULL;
}

/* NULL, or why GPU `index` cannot be used. */
static const char *examine(int index, int *multiprocessors)
{
    static char why[256];
    int count = 0, major = 0, minor = 0;
    const char *problem = ccld_cuda_count(&count);
    if (problem)
        return problem;
    if (index < 0 || index >= count) {
        snprintf(why, sizeof why, "there is no GPU %d: %s", index,
                 count == 1 ? "the only one is 0" : "");
        if (count > 1)
            snprintf(why, sizeof why, "there is no GPU %d: they are 0 to %d", index, count - 1);
        return why;
    }
    cudaError_t asked = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
    if (asked == cudaSuccess)
        asked = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index);
    if (asked == cudaSuccess)
        asked = cudaDeviceGetAttribute(multiprocessors, cudaDevAttrMultiProcessorCount, index);
    if (asked != cudaSuccess) {
        snprintf(why, sizeof why, "cannot ask GPU %d: %s", index, cudaGetErrorString(asked));
        return why;
    }
    if (major < LEAST_CAPABILITY) {
        snprintf(why, sizeof why,
                 "GPU %d is too old: its compute capability is %d.%d, and %d.0 (Ampere) or later "
                 "is needed",
                 index, major, minor, LEAST_CAPABILITY);
        return why;
    }
    return NULL;
}

extern "C" const char *ccld_cuda_open(struct device *d, int index)
{
    static char why[256];
    int multiprocessors = 0;
    const char *problem = examine(index, &multiprocessors);
    if (problem) {
        cudaGetLastError();
        return problem;
    }
    cudaStream_t stream = NULL;
    cudaError_t begun = cudaSetDevice(index);
    if (begun == cudaSuccess)
        begun = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    struct staging *staging = begun == cudaSuccess ? staging_new(index, stream) : NULL;
    if (!staging) {
        snprintf(why, sizeof why, "cannot use GPU %d: %s", index,
                 begun == cudaSuccess ? "no pinned memory" : cudaGetErrorString(begun));
        cudaGetLastError();
        if (stream)
            cudaStreamDestroy(stream);
        return why;
    }
    struct cuda_device *cuda = (struct cuda_device *)calloc(1, sizeof *cuda);
    if (!cuda)
        cuda_die("out of memory");
    cuda->index = index;
    cuda->stream = stream;
    cuda->multiprocessors = multiprocessors;
    cuda->staging = staging;
    d->state = cuda;
    cuda_check(cudaMalloc(&cuda->counters, COUNTERS * sizeof *cuda->counters));
    cuda_check(cudaMemsetAsync(cuda->counters, 0, COUNTERS * sizeof *cuda->counters, stream));
    cuda->plans = library_plans_new(d);
    return NULL;
}
