#ifndef CCLD_KERNELS_CUDA_ATTENTION_BACKWARD_CUH
#define CCLD_KERNELS_CUDA_ATTENTION_BACKWARD_CUH

/* With scores t = scale q k, p = softmax(t), dp = dy v: dv = sum over queries of p dy, and
 * dt = p (dp - sum over keys of p dp); dq = scale sum of dt k, dk = scale sum of dt q. */

#include "kernels/cuda/attention.cuh"

/* Of a query: p = 2^(log2_scale q k - log2_sum), and the mean of dp weighted by p. */
struct row_sums {
    float log2_sum, mean;
};

template <typename T> struct backward_problem {
    attention_problem<T> a;
    const T *dy;
    T *dq, *dk, *dv;
};

/* Heads of width 64, each computed by one block, if they are short enough for the GPU's shared
 * memory; otherwise false. */
bool attention_backward_of_heads(struct device *d, const backward_problem<half_t> &b,
                                 int64_t heads);
bool attention_backward_of_heads(struct device *d, const backward_problem<bf16_t> &b,
                                 int64_t heads);

#endif
