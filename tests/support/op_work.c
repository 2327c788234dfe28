#include "tests/support/op_work.h"

static double weight_flops(const struct tensor *weight, double rows)
{
    return 2 * (double)tensor_count(weight) * rows;
}

/* Every output pixel is a row. */
double conv2d_flops(const struct conv2d_args *a)
{
    const int64_t *in = a->x->shape, *kernel = a->weight->shape;
    int64_t pad = a->pad_begin + a->pad_end;
    int64_t high = (in[1] + pad - kernel[2]) / a->stride + 1;
    int64_t wide = (in[2] + pad - kernel[3]) / a->stride + 1;
    return weight_flops(a->weight, (double)(in[0] * high * wide));
}

double linear_flops(const struct linear_args *a)
{
    return weight_flops(a->weight, (double)tensor_rows(a->x));
}

double attention_flops(const struct attention_args *a)
{
    return 4.0 * (double)(a->n * a->s * a->s * a->heads * a->d);
}
