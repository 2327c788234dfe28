#ifndef CCLD_KERNELS_CUDA_WORKING_WEIGHT_CUH
#define CCLD_KERNELS_CUDA_WORKING_WEIGHT_CUH

#include "kernels/cuda/internal.cuh"

/* A weight in the form an op needs: x's type, kernels with channels last. If neither the weight nor
 * its working copy (kernels/weight.h) has this form, the op makes a temporary copy: correct, but
 * slow. */
class working_weight
{
    struct device *device;
    void *copy = nullptr;
    size_t granted = 0;

  public:
    const void *data;
    working_weight(struct device *d, const struct tensor *weight, enum dtype type) : device(d)
    {
        const struct tensor *w = weight->working ? weight->working : weight;
        const bool is_kernel = w->ndim == 4 && w->shape[2] * w->shape[3] > 1;
        data = w->data;
        if (w->dtype == type && (!is_kernel || w->channels_last))
            return;
        data = copy = plugin_host->allocate(d, (size_t)count_of(w) * size_of(type), &granted);
        struct tensor wanted = *w, *to = &wanted;
        wanted.dtype = type;
        wanted.channels_last = is_kernel;
        wanted.data = copy;
        struct convert_weights_args a = {};
        a.count = 1;
        a.from = &w;
        a.to = &to;
        cuda_convert_weights(d, &a);
    }
    ~working_weight()
    {
        if (copy)
            plugin_host->release(device, copy, granted);
    }
    working_weight(const working_weight &) = delete;
    working_weight &operator=(const working_weight &) = delete;
};

#endif
