#ifndef CCLD_KERNELS_CUDA_LIBRARY_PLANS_CUH
#define CCLD_KERNELS_CUDA_LIBRARY_PLANS_CUH

/* Shared by cublaslt.cu and cudnn.cu. */

#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/plan_cache.h"

struct library_plans {
    struct matrix_plans *matrices;          /* cublaslt.cu */
    struct convolution_plans *convolutions; /* cudnn.cu */
};

struct matrix_plans *matrix_plans_new(struct device *d, const char *gpu);
void matrix_plans_free(struct matrix_plans *p);
struct convolution_plans *convolution_plans_new(struct device *d, const char *gpu);
void convolution_plans_free(struct convolution_plans *p);

/* A hash table of entries, chained, by the bytes of their keys. */
#define PLAN_SLOTS 256
static inline size_t plan_slot(const void *key, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ ((const unsigned char *)key)[i]) * 0x100000001b3;
    return (size_t)(h >> 32) % PLAN_SLOTS;
}

/* The largest power of two, up to 256, that divides an address. */
static inline int address_alignment(const void *p)
{
    const uintptr_t lowest = (uintptr_t)p & -(uintptr_t)p;
    return lowest && lowest < 256 ? (int)lowest : 256;
}

static inline const char *type_name(enum dtype type)
{
    return type == DTYPE_F32 ? "f32" : type == DTYPE_F16 ? "f16" : "bf16";
}

/* Plans may be made while work is recorded; what the libraries do for that (loading modules, for
 * example) is not recorded. */
class outside_recording
{
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;

  public:
    outside_recording()
    {
        cuda_check(cudaThreadExchangeStreamCaptureMode(&mode));
    }
    ~outside_recording()
    {
        cuda_check(cudaThreadExchangeStreamCaptureMode(&mode));
    }
};

/* Keeps the GPU busy until its clocks are up, unless they still are: an idle one runs at a fifth of
 * its frequency, and a timing while they rise would favor the later candidates. */
void warm_up_clocks(struct device *d);

/* A candidate whose first run takes this many times the best one's time is not run again. */
#define HOPELESS 3

/* Milliseconds of the fastest of three runs after a warm-up run; negative if run() returns false
 * because it failed. least: of the candidates before it; negative: there is none. */
template <typename F> float time_of(struct device *d, float least, F run)
{
    float best = -1;
    cudaEvent_t begin, end;
    cudaStream_t stream = stream_of(d);
    warm_up_clocks(d);
    cuda_check(cudaEventCreate(&begin));
    cuda_check(cudaEventCreate(&end));
    bool can = run();
    for (int i = 0; i < 3 && can; i++) {
        float milliseconds = 0;
        cuda_check(cudaEventRecord(begin, stream));
        can = run();
        cuda_check(cudaEventRecord(end, stream));
        cuda_check(cudaEventSynchronize(end));
        cuda_check(cudaEventElapsedTime(&milliseconds, begin, end));
        if (can && (best < 0 || milliseconds < best))
            best = milliseconds;
        if (least >= 0 && milliseconds > HOPELESS * least)
            break;
    }
    cuda_check(cudaEventDestroy(begin));
    cuda_check(cudaEventDestroy(end));
    return can ? best : -1;
}

#endif
