#ifndef CCLD_KERNELS_CUDA_BIAS_CUH
#define CCLD_KERNELS_CUDA_BIAS_CUH

#include "kernels/cuda/internal.cuh"

/* y [rows, columns] = act(y + bias), in place; bias: F32 or NULL. */
void bias_activate(struct device *d, enum dtype type, int64_t rows, int64_t columns,
                   const float *bias, enum activation_kind act, void *y);
/* to[i] = from[i] converted to another type, for parameter vectors. */
void convert_vector(struct device *d, int64_t count, const float *from, enum dtype type, void *to);
/* A bias as NVIDIA's libraries take it: of the type of what it is added to, its address a multiple
 * of `alignment` bytes. Otherwise a copy of it. */
class library_bias
{
    struct device *device;
    void *copy = nullptr;
    size_t granted = 0;

  public:
    const void *data;
    library_bias(struct device *d, const float *bias, int64_t count, enum dtype type,
                 unsigned alignment)
        : device(d), data(bias)
    {
        if (!bias || (type == DTYPE_F32 && (uintptr_t)bias % alignment == 0))
            return;
        data = copy = plugin_host->allocate(d, (size_t)count * size_of(type), &granted);
        convert_vector(d, count, bias, type, copy);
    }
    ~library_bias()
    {
        if (copy)
            plugin_host->release(device, copy, granted);
    }
    library_bias(const library_bias &) = delete;
    library_bias &operator=(const library_bias &) = delete;
};

/* dz = dy if y is above 0, else 0. */
void relu_gradient(struct device *d, enum dtype type, int64_t count, const void *y, const void *dy,
                   void *dz);

#endif
