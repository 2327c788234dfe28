#ifndef CCLD_KERNELS_CUDA_BIAS_CUH
#define CCLD_KERNELS_CUDA_BIAS_CUH

#include "kernels/cuda/internal.cuh"

/* y [rows, columns] = act(y + bias), in place; bias: F32 or NULL. */
void bias_activate(struct device *d, enum dtype type, int64_t rows, int64_t columns,
                   const float *bias, enum activation_kind act, void *y);
/* to[i] = from[i] converted to another type, for parameter vectors. */
void convert_vector(struct device *d, int64_t count, const float *from, enum dtype type, void *to);
/* A bias as NVIDIA's libraries take it: of the type of what it is added to, its address a multiple
 * of `alignment` bytes. If neither the bias nor its working copy (kernels/weight.h) is like that,
 * it is converted for this call. */
class library_bias
{
    struct device *device;
    void *copy = nullptr;
    size_t granted = 0;

  public:
    const void *data; /* null without a bias */
    library_bias(struct device *d, const struct tensor *bias, enum dtype type, unsigned alignment)
        : device(d), data(nullptr)
    {
        const struct tensor *const forms[] = {bias, bias ? bias->working : nullptr};
        for (const struct tensor *t : forms)
            if (t && t->dtype == type && (uintptr_t)t->data % alignment == 0)
                data = t->data;
        if (!bias || data)
            return;
        data = copy = plugin_host->allocate(d, (size_t)count_of(bias) * size_of(type), &granted);
        convert_vector(d, count_of(bias), (const float *)bias->data, type, copy);
    }
    ~library_bias()
    {
        if (copy)
            plugin_host->release(device, copy, granted);
    }
    library_bias(const library_bias &) = delete;
    library_bias &operator=(const library_bias &) = delete;
};

/* The elements of an F32 vector, or null without one. */
static inline const float *vector_of(const struct tensor *v)
{
    return v ? (const float *)v->data : nullptr;
}

/* to[i] += from[i], both of `type`. */
void add_to(struct device *d, enum dtype type, int64_t count, const void *from, void *to);
/* dz = dy if y is above 0, else 0. */
void relu_gradient(struct device *d, enum dtype type, int64_t count, const void *y, const void *dy,
                   void *dz);

#endif
