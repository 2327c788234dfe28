#ifndef CCLD_KERNELS_CUDA_INTERNAL_CUH
#define CCLD_KERNELS_CUDA_INTERNAL_CUH

/* Shared by the files of the CUDA backend. */

#include "kernels/cuda/cuda.cuh"

extern "C" {
#include "kernels/device.h"
#include "kernels/plugin.h"

/* The backend's functions, each in the file of its op or family. */
#define OP(name)          void cuda_##name(struct device *d, const struct name##_args *a);
#define OP_TRAINING(name) void cuda_##name(struct device *d, const struct name##_args *a);
#define OP_BACKWARD(name)                                                                          \
    void cuda_##name##_backward(struct device *d, const struct name##_backward_args *a);
#include "kernels/ops.def"
void cuda_convert_weights(struct device *d, const struct convert_weights_args *a);
void cuda_lap(struct device *d, int key);
void cuda_laps(struct device *d, double (*seconds)[PART_COUNT]);
void cuda_load_weight(struct device *d, const struct load_weight_args *a);
}
void laps_free(struct laps *l);
extern const struct group_functions cuda_group;

/* Functions of the program that loaded this backend. */
extern const struct plugin_host *plugin_host;

/* Joins the group's stream if it has work that has not been joined. Returns false if CUDA refuses.
 */
bool group_settle(struct device *d);

/* Ends a part of the op that is running: the rest of it counts as PART_OTHER
 * (kernels/cuda/laps.cu). Does nothing unless laps are taken. */
void lap_of_part(struct device *d, enum op_part part);

struct library_plans; /* library handles and autotuned choices (kernels/cuda/libraries.h) */

#define COUNTERS 16384

struct cuda_device {
    int index;
    cudaStream_t stream; /* all work runs in it, in order */
    int multiprocessors;
    bool recording;
    unsigned *counters;      /* [COUNTERS], zero between launches: is_last_block */
    struct staging *staging; /* pinned memory that uploads pass through */
    struct library_plans *plans;
    struct group *group; /* communication with other ranks' devices, or NULL */
    struct laps *laps;   /* times of ops; NULL until the first */
};

static inline struct cuda_device *cuda_of(const struct device *d)
{
    return (struct cuda_device *)d->state;
}

static inline cudaStream_t stream_of(const struct device *d)
{
    return cuda_of(d)->stream;
}

/* Device memory for the launches of one op. It returns to the pool at the end of the scope, which
 * is safe because its next user runs later in the same stream. */
class scratch
{
    struct device *device;
    size_t granted;

  public:
    void *const data;
    scratch(struct device *d, size_t bytes)
        : device(d), data(plugin_host->allocate(d, bytes, &granted))
    {
    }
    ~scratch()
    {
        plugin_host->release(device, data, granted);
    }
    scratch(const scratch &) = delete;
    scratch &operator=(const scratch &) = delete;
    template <typename T> T *as() const
    {
        return (T *)data;
    }
};

/* Runs a statement with T as the element type: WITH_TYPE(x->dtype, T, launch<T>(d, a)); */
#define WITH_TYPE(dtype_, T, ...)                                                                  \
    do {                                                                                           \
        switch (dtype_) {                                                                          \
        case DTYPE_F32: {                                                                          \
            using T = float;                                                                       \
            __VA_ARGS__;                                                                           \
            break;                                                                                 \
        }                                                                                          \
        case DTYPE_F16: {                                                                          \
            using T = half_t;                                                                      \
            __VA_ARGS__;                                                                           \
            break;                                                                                 \
        }                                                                                          \
        case DTYPE_BF16: {                                                                         \
            using T = bf16_t;                                                                      \
            __VA_ARGS__;                                                                           \
            break;                                                                                 \
        }                                                                                          \
        default:                                                                                   \
            plugin_host->die("CUDA backend: no kernel for %s elements of type %d", __func__,       \
                             (int)(dtype_));                                                       \
        }                                                                                          \
    } while (0)

static inline int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Copies of functions of kernels/tensor.h and common/base/dtype.h, which are in the program. */
static inline int64_t count_of(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}
static inline int64_t rows_of(const struct tensor *t)
{
    return count_of(t) / (t->shape[t->ndim - 1] ? t->shape[t->ndim - 1] : 1);
}
static inline size_t size_of(enum dtype d) /* bytes of an element */
{
    return d == DTYPE_F32 || d == DTYPE_I32 ? 4 : d == DTYPE_I64 || d == DTYPE_F64 ? 8 : 2;
}

#endif
