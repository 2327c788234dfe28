#include "kernels/device.h"
#include "kernels/ref/ref.h"

static void copy_element(const struct update_copy *c, int64_t i, float x)
{
    int64_t filter = c->channels * c->window, in = i % filter;
    int64_t at = i - in + in % c->window * c->channels + in / c->window;
    if (c->dtype == DTYPE_F32)
        ((float *)c->to)[at] = x;
    else
        dtype_from_f32((enum dtype)c->dtype, (char *)c->to + 2 * at, &x, 1);
}

static void write_copies(const struct update_args *a)
{
    const struct update_copy *table = a->copies ? a->copies->table->data : NULL;
    for (int64_t k = 0; table && k < a->copies->count; k++) {
        const struct update_copy *c = &table[k];
        for (int64_t i = 0; i < c->count; i++) {
            int64_t from = c->first + i - a->first;
            if (from >= 0 && from < a->count)
                copy_element(c, i, a->parameter[from]);
        }
    }
}

/* Runs the device's adamw. */
void ref_update(struct device *d, const struct update_args *a)
{
    double squares = 0;
    for (int64_t i = 0; i < a->squares_count; i++)
        squares += a->squares[i];
    double norm = sqrt(squares) / a->loss_scale;
    if (a->result)
        *a->result = (struct update_result){norm, isfinite(norm)};
    if (a->fetch)
        memcpy(a->fetched, ref_f32(a->fetch), (size_t)tensor_count(a->fetch) * sizeof(float));
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
    write_copies(a);
}
