#include "kernels/backward.h"
#include "kernels/ref/ref.h"

double ref_activate_derivative(enum activation_kind kind, double x)
{
    switch (kind) {
    case ACTIVATION_NONE:
        return 1;
    case ACTIVATION_RELU:
        return x <= 0 ? 0 : 1;
    case ACTIVATION_SILU: {
        double sigmoid = 1 / (1 + exp(-x));
        return sigmoid * (1 + x * (1 - sigmoid));
    }
    case ACTIVATION_GELU: /* Phi(x) + x * phi(x) */
        return 0.5 * (1 + erf(x * M_SQRT1_2)) + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
    case ACTIVATION_LEAKY_RELU:
        return x <= 0 ? LEAKY_RELU_SLOPE : 1;
    }
    CHECK(!"an activation of ops.h");
    return x;
}

void ref_activation_backward(struct device *d, const struct activation_backward_args *a)
{
    for (int64_t i = 0; i < tensor_count(a->dx); i++)
        ref_f32(a->dx)[i] =
            (float)(ref_f32(a->dy)[i] *
                    ref_activate_derivative(a->forward.kind, ref_f32(a->forward.x)[i]));
}
