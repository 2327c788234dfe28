#include <map>
#include <stdlib.h>

#include "kernels/cuda/cuda.cuh"
#include "tests/cuda-host/streams.h"

using cuda_host::failed;
using cuda_host::guard;

static std::map<const char *, size_t> device_blocks, pinned_blocks;
static size_t in_use;
static cudaError_t last_error;

/* ---- errors */

cudaError_t cuda_host::failed(cudaError_t e)
{
    return last_error = e;
}

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
    case cudaErrorStreamCaptureUnjoined:
        return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
        return "dependency created on uncaptured work in another stream";
    case cudaErrorStreamCaptureImplicit:
        return "operation would make the legacy stream depend on a capturing blocking stream";
    case cudaErrorCapturedEvent:
        return "operation not permitted on an event last recorded in a capturing stream";
    case cudaErrorNotSupported:
        return "operation not supported";
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
    if (device < 0 || device >= gpus())
        return failed(cudaErrorInvalidDevice);
    cuda_host::here.device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    *device = cuda_host::here.device;
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
    guard held(cuda_host::lock);
    if (cuda_host::refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    cuda_host::run_all();
    return cudaSuccess;
}
cudaError_t cudaDeviceReset()
{
    return cudaDeviceSynchronize();
}
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total)
{
    guard held(cuda_host::lock);
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
    guard held(cuda_host::lock);
    *p = nullptr;
    if (cuda_host::refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    if (!bytes)
        return cudaSuccess;
    if (bytes > memory_bytes() - in_use ||
        !(*p = cuda_host::counts() ? cuda_host::reserve(bytes) : aligned_bytes(bytes)))
        return failed(cudaErrorMemoryAllocation);
    if (!cuda_host::counts())
        memset(*p, 0xff, bytes);
    device_blocks[(const char *)*p] = bytes;
    in_use += bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    guard held(cuda_host::lock);
    if (!p)
        return cudaSuccess;
    if (cuda_host::refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    cuda_host::run_all();
    auto found = device_blocks.find((const char *)p);
    if (found == device_blocks.end())
        return failed(cudaErrorInvalidValue);
    in_use -= found->second;
    if (cuda_host::counts())
        cuda_host::give_back(p, found->second);
    else
        free(p);
    device_blocks.erase(found);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t bytes, unsigned)
{
    guard held(cuda_host::lock);
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
    guard held(cuda_host::lock);
    if (!p)
        return cudaSuccess;
    cuda_host::run_all();
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

bool cuda_host::in_device_memory(const void *p, size_t bytes)
{
    guard held(cuda_host::lock);
    return bytes == 0 || lies_in(device_blocks, p, bytes) == 1;
}

static cudaError_t copy(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                        size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    guard held(cuda_host::lock);
    if (!width || !height)
        return cudaSuccess;
    const int to = lies_in(device_blocks, dst, (height - 1) * dst_pitch + width);
    const int from = lies_in(device_blocks, src, (height - 1) * src_pitch + width);
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (to < 0 || from < 0 ||
        (kind != cudaMemcpyDefault && (to_device != to || from_device != from)))
        return failed(cudaErrorInvalidValue);
    if (cuda_host::counted(to && from ? "copy" : "transfer", 0,
                           (double)(width * height) * (to && from ? 2 : 1))) {
        for (size_t i = 0; i < height && !to; i++) /* a number that is neither 0 nor NaN */
            memset((char *)dst + i * dst_pitch, 1, width);
        return cudaSuccess;
    }
    cuda_host::host_task(stream, [=] {
        for (size_t i = 0; i < height; i++)
            memmove((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch, width);
    });
    /* Copies from and to pageable memory are complete when the call returns. */
    const bool pageable = (!to && lies_in(pinned_blocks, dst, 1) != 1) ||
                          (!from && lies_in(pinned_blocks, src, 1) != 1);
    if (pageable && !cuda_host::is_captured(stream))
        cuda_host::run_stream(stream);
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
    guard held(cuda_host::lock);
    if (cuda_host::refused_by_capture())
        return failed(cudaErrorStreamCaptureUnsupported);
    const cudaError_t e = cudaMemcpyAsync(dst, src, bytes, kind, nullptr);
    if (e == cudaSuccess)
        cuda_host::run_stream(nullptr);
    return e;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    guard held(cuda_host::lock);
    if (!bytes)
        return cudaSuccess;
    if (lies_in(device_blocks, p, bytes) != 1)
        return failed(cudaErrorInvalidValue);
    if (!cuda_host::counted("memset", 0, (double)bytes))
        cuda_host::host_task(stream, [=] { memset(p, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}
