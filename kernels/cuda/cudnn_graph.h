#ifndef CCLD_KERNELS_CUDA_CUDNN_GRAPH_H
#define CCLD_KERNELS_CUDA_CUDNN_GRAPH_H

/* Convolutions as graphs of cuDNN's backend API (cudnn_graph.cu), and the engines that can run them
 * (cudnn_plans.cu). Facts: https://docs.nvidia.com/deeplearning/cudnn/backend/latest/
 * Written for all releases of cuDNN 9. Tried, without a GPU, with 9.8, the oldest that can plan
 * without one, 9.19 and 9.26. */

#include <cudnn.h>

#include "kernels/cuda/libraries.h"

/* A backend descriptor, destroyed at the end of the scope. */
class descriptor
{
    cudnnBackendDescriptor_t p = nullptr;

  public:
    /* The first failure; later operations do nothing. */
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;

    descriptor() = default;
    explicit descriptor(cudnnBackendDescriptorType_t type)
        : status(cudnnBackendCreateDescriptor(type, &p))
    {
    }
    ~descriptor()
    {
        if (p)
            cudnnBackendDestroyDescriptor(p);
    }
    descriptor(descriptor &&o) noexcept : p(o.p), status(o.status)
    {
        o.p = nullptr;
    }
    descriptor &operator=(descriptor &&o) noexcept
    {
        cudnnBackendDescriptor_t mine = p;
        p = o.p;
        o.p = mine;
        status = o.status;
        return *this;
    }
    cudnnBackendDescriptor_t get() const
    {
        return p;
    }
    void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
             const void *values)
    {
        if (status == CUDNN_STATUS_SUCCESS)
            status = cudnnBackendSetAttribute(p, name, type, count, values);
    }
    void set_int(cudnnBackendAttributeName_t name, int64_t value)
    {
        set(name, CUDNN_TYPE_INT64, 1, &value);
    }
    void set_float(cudnnBackendAttributeName_t name, float value)
    {
        set(name, CUDNN_TYPE_FLOAT, 1, &value);
    }
    void set_type(cudnnBackendAttributeName_t name, cudnnDataType_t value)
    {
        set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
    }
    void set_descriptor(cudnnBackendAttributeName_t name, const descriptor &value)
    {
        if (status == CUDNN_STATUS_SUCCESS)
            status = value.status;
        set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.p);
    }
    bool finalize()
    {
        if (status == CUDNN_STATUS_SUCCESS)
            status = cudnnBackendFinalize(p);
        return status == CUDNN_STATUS_SUCCESS;
    }
};

enum convolution_direction {
    CONVOLUTION_FORWARD,
    CONVOLUTION_BACKWARD_DATA,
    CONVOLUTION_BACKWARD_WEIGHT,
};

/* The problem an engine is chosen for; compared as bytes. */
struct convolution_problem {
    struct convolution c;
    enum convolution_direction direction;
    int bias; /* added to the output by the same engine */
    int adds; /* backward to data: to the output's present content; forward: a residual to it */
    int tf32;
    int alignment; /* of all pointers, in bytes */
};

/* Ids that bind memory to a graph's tensors. */
enum { ID_INPUT = 1, ID_WEIGHT, ID_OUTPUT, ID_BIAS, ID_RESIDUAL, ID_SUM, ID_BOTH };

/* Builds the operation graph. If the library does not support it, its status says so. */
descriptor convolution_graph(cudnnHandle_t handle, const struct convolution_problem *p);

/* An engine with all its settings, ready to run. */
struct convolution_plan {
    descriptor plan;
    int64_t workspace; /* bytes */
    char name[256];    /* "engine 12 2=5 14=3": index and knobs, enough to rebuild it */
};

/* Finds at most `most` engines for the graph, the library's preferred ones first. They need at most
 * workspace_limit bytes, give the same results in every run and are as precise as `p` requires.
 * Returns their number. */
int convolution_plans(cudnnHandle_t handle, const descriptor &graph,
                      const struct convolution_problem *p, int64_t workspace_limit,
                      struct convolution_plan *plans, int most);
/* Finds the engine of that name; false if there is none, or none any more. */
bool convolution_plan_named(cudnnHandle_t handle, const descriptor &graph, const char *name,
                            struct convolution_plan *plan);

#endif
