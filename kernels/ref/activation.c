#include "kernels/ref/ref.h"

double ref_activate(enum activation_kind kind, double x)
{
    switch (kind) {
    case ACTIVATION_NONE:
        return x;
    case ACTIVATION_RELU:
        return x < 0 ? 0 : x; /* NaN stays NaN */
    case ACTIVATION_SILU:
        return x / (1 + exp(-x));
    case ACTIVATION_GELU:
        return 0.5 * x * (1 + erf(x * M_SQRT1_2));
    case ACTIVATION_LEAKY_RELU:
        return x < 0 ? x * LEAKY_RELU_SLOPE : x;
    }
    CHECK(!"an activation of ops.h");
    return x;
}

void ref_activation(struct device *d, const struct activation_args *a)
{
    for (int64_t i = 0; i < tensor_count(a->x); i++)
        ref_f32(a->y)[i] = (float)ref_activate(a->kind, ref_f32(a->x)[i]);
}
