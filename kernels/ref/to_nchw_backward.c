#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_to_nchw_backward(struct device *d, const struct to_nchw_backward_args *a)
{
    ref_to_nhwc(d, &(struct to_nhwc_args){a->dy, a->dx, NULL, NULL});
}
