#include "kernels/ref/ref.h"
#include "kernels/training.h"

void ref_hinge_loss(struct device *d, const struct hinge_loss_args *a)
{
    int64_t count = tensor_count(a->x);
    double sum = 0, of_logits = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = ref_f32(a->x)[i], below = 1 - a->sign * x;
        of_logits += x;
        sum += below > 0 ? below : below <= 0 ? 0 : NAN;
        if (a->dx)
            ref_f32(a->dx)[i] = below > 0    ? (float)(-a->sign * a->scale / 2 / (double)count)
                                : below <= 0 ? 0
                                             : NAN;
    }
    ref_f64(a->means)[0] = of_logits / (double)count;
    ref_f64(a->means)[1] = sum / 2 / (double)count;
}
