#include "kernels/device.h"
#include "kernels/ref/ref.h"

/* Where element i lies in the copy. */
static int64_t place_of(const struct update_copy *c, int64_t i)
{
    int64_t filter = c->channels * c->window, in = i % filter;
    return i - in + in % c->window * c->channels + in / c->window;
}

static void copy_element(const struct update_copy *c, int64_t i, float x)
{
    int64_t at = place_of(c, i);
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

/* The gradient with compact parts spread out; the caller frees it. */
static float *spread_gradient(const struct update_args *a)
{
    float *g = xmalloc((size_t)a->count * sizeof *g);
    memcpy(g, a->gradient, (size_t)a->count * sizeof *g);
    for (int64_t k = 0; k < a->copies->count; k++) {
        const struct update_copy *c = (const struct update_copy *)a->copies->table->data + k;
        size_t size = dtype_size((enum dtype)c->dtype);
        for (int64_t i = 0; i < c->count && c->gradient; i++) {
            int64_t to = c->first + i - a->first;
            const char *from = (const char *)c->gradient + (size_t)place_of(c, i) * size;
            if (to >= 0 && to < a->count)
                dtype_to_f32(&g[to], (enum dtype)c->dtype, from, 1);
        }
    }
    return g;
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
    float *spread = a->copies ? spread_gradient(a) : NULL;
    double clipped = a->clip > 0 && norm > a->clip ? a->clip / norm : 1;
    struct adamw_args step = {
        .count = a->count,
        .parameter = a->parameter,
        .m = a->m,
        .v = a->v,
        .ema = a->ema,
        .gradient = spread ? spread : a->gradient,
        .learning_rate = a->learning_rate,
        .beta1 = a->beta1,
        .beta2 = a->beta2,
        .epsilon = a->epsilon,
        .weight_decay = a->weight_decay,
        .gradient_scale = clipped / a->loss_scale,
        .ema_decay = a->ema_decay,
        .step = a->step,
        .ema_is_behind = a->ema_is_behind,
        .ema_decay_before = a->ema_decay_before,
    };
    d->backend->adamw(d, &step);
    free(spread);
    write_copies(a);
}
