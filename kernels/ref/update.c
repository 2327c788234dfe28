#include "kernels/device.h"
#include "kernels/ref/ref.h"

/* Runs the device's adamw. */
void ref_update(struct device *d, const struct update_args *a)
{
    double squares = 0;
    for (int64_t i = 0; i < a->squares_count; i++)
        squares += a->squares[i];
    double norm = sqrt(squares) / a->loss_scale;
    if (a->result)
        *a->result = (struct update_result){norm, isfinite(norm)};
    if (!isfinite(norm))
        return;
    double clipped = a->clip > 0 && norm > a->clip ? a->clip / norm : 1;
    struct adamw_args step = {
        .count = a->count,
        .parameter = a->parameter,
        .m = a->m,
        .v = a->v,
        .ema = a->ema,
        .gradient = a->gradient,
        .learning_rate = a->learning_rate,
        .beta1 = a->beta1,
        .beta2 = a->beta2,
        .epsilon = a->epsilon,
        .weight_decay = a->weight_decay,
        .gradient_scale = clipped / a->loss_scale,
        .ema_decay = a->ema_decay,
        .step = a->step,
    };
    d->backend->adamw(d, &step);
}
