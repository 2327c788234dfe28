#include "kernels/cuda/cudnn_graph.h"

#include <array>

static cudnnDataType_t data_type(enum dtype type)
{
    return type == DTYPE_F32   ? CUDNN_DATA_FLOAT
           : type == DTYPE_F16 ? CUDNN_DATA_HALF
                               : CUDNN_DATA_BFLOAT16;
}

/* Dimensions are always given as n, c, h, w (or co, ci, kh, kw); only the strides express the order
 * in memory: channels last. */
static descriptor tensor(int64_t id, cudnnDataType_t type, int alignment, int64_t n, int64_t c,
                         int64_t h, int64_t w, bool is_virtual = false)
{
    const int64_t dimensions[4] = {n, c, h, w}, strides[4] = {h * w * c, 1, w * c, c};
    descriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    t.set_int(CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    t.set_type(CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    t.set_int(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
    t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dimensions);
    t.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    if (is_virtual)
        t.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    t.finalize();
    return t;
}

static descriptor geometry(const struct convolution *c)
{
    const int64_t dilations[2] = {1, 1}, strides[2] = {c->stride, c->stride};
    const int64_t before[2] = {c->pad_begin, c->pad_begin}, after[2] = {c->pad_end, c->pad_end};
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    descriptor g(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    g.set_type(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    g.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    g.set_int(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    g.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    g.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    g.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    g.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    g.finalize();
    return g;
}

/* The three directions use the same three tensors under different names. */
static descriptor convolution_operation(const struct convolution_problem *p, const descriptor &x,
                                        const descriptor &w, const descriptor &y)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t geometry, x, w, y, alpha, beta;
    } names[] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    const auto &n = names[p->direction];
    descriptor o(n.type);
    o.set_descriptor(n.geometry, geometry(&p->c));
    o.set_descriptor(n.x, x);
    o.set_descriptor(n.w, w);
    o.set_descriptor(n.y, y);
    o.set_float(n.alpha, 1);
    o.set_float(n.beta, p->adds && p->direction == CONVOLUTION_BACKWARD_DATA ? 1 : 0);
    o.finalize();
    return o;
}

static descriptor addition(const descriptor &x, const descriptor &addend, const descriptor &y)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    descriptor add(CUDNN_BACKEND_POINTWISE_DESCRIPTOR),
        o(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    add.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    add.set_type(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    add.finalize();
    o.set_descriptor(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, add);
    o.set_descriptor(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    o.set_descriptor(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, addend);
    o.set_descriptor(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    o.finalize();
    return o;
}

/* Of the operations that there are. */
static descriptor graph_of(cudnnHandle_t handle, const std::array<const descriptor *, 3> &all)
{
    descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    cudnnBackendDescriptor_t operations[3];
    int count = 0;
    for (const descriptor *o : all) {
        if (o->status != CUDNN_STATUS_SUCCESS)
            graph.status = o->status;
        if (o->get())
            operations[count++] = o->get();
    }
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    /* Later releases of cuDNN 9 do not need this. */
    if (graph.status == CUDNN_STATUS_SUCCESS)
        cudnnBackendSetAttribute(graph.get(), CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE,
                                 1, &handle);
#pragma GCC diagnostic pop
    graph.finalize();
    return graph;
}

descriptor convolution_graph(cudnnHandle_t handle, const struct convolution_problem *p)
{
    const struct convolution *c = &p->c;
    const cudnnDataType_t type = data_type(c->type);
    descriptor x = tensor(ID_INPUT, type, p->alignment, c->n, c->ci, c->h, c->w);
    descriptor w = tensor(ID_WEIGHT, type, p->alignment, c->co, c->ci, c->kh, c->kw);
    descriptor y = tensor(ID_OUTPUT, type, p->alignment, c->n, c->co, c->oh, c->ow);
    const bool forward = p->direction == CONVOLUTION_FORWARD;
    const bool with_bias = forward && p->bias, with_residual = forward && p->adds;
    /* Sums to which something is added stay in registers and are not rounded before. The bias has
     * the activations' type, the only one that engines support, and comes after the residual: there
     * are no engines for the other order. */
    descriptor sum, both, plus_bias, plus_residual;
    if (with_bias || with_residual)
        sum = tensor(ID_SUM, CUDNN_DATA_FLOAT, 16, c->n, c->co, c->oh, c->ow, true);
    if (with_bias && with_residual)
        both = tensor(ID_BOTH, CUDNN_DATA_FLOAT, 16, c->n, c->co, c->oh, c->ow, true);
    if (with_residual) {
        const descriptor residual =
            tensor(ID_RESIDUAL, type, p->alignment, c->n, c->co, c->oh, c->ow);
        plus_residual = addition(sum, residual, with_bias ? both : y);
    }
    if (with_bias) {
        const descriptor bias = tensor(ID_BIAS, type, 16, 1, c->co, 1, 1);
        plus_bias = addition(with_residual ? both : sum, bias, y);
    }
    const descriptor convolution =
        convolution_operation(p, x, w, with_bias || with_residual ? sum : y);
    return graph_of(handle, {&convolution, &plus_residual, &plus_bias});
}
