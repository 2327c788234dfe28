#include "common/train/updater.h"

#include <math.h>

#include "common/base/message.h"

#define LOSS_SCALE_FIRST    65536.0
#define LOSS_SCALE_MOST     16777216.0
#define LOSS_SCALE_PATIENCE 2000

void updater_init(struct updater *u, struct parameters *p, struct collective *c,
                  const struct adamw_options *adamw, double clip, int64_t accumulate)
{
    if (accumulate * c->size > 1)
        parameters_split_gradients(p);
    double scale = p->device->compute == DTYPE_F16 ? LOSS_SCALE_FIRST : 1;
    *u = (struct updater){.parameters = p,
                          .collective = c,
                          .adamw = *adamw,
                          .clip = clip,
                          .loss_scale = {.scale = scale}};
}

static void divide(const struct updater *u, int64_t *bounds)
{
    int shards = u->collective->shards;
    for (int s = 0; s <= shards; s++)
        bounds[s] = u->parameters->trained_elements * s / shards;
}

void updater_add(struct updater *u)
{
    struct parameters *p = u->parameters;
    int64_t bounds[65];
    divide(u, bounds);
    if (p->micro_gradients) {
        struct sum_slices_args sum = {.own = p->micro_gradients->data,
                                      .total = (float *)p->arrays[ARRAY_GRADIENTS]->data +
                                               bounds[u->collective->shard],
                                      .bounds = bounds,
                                      .first = u->added == 0};
        collective_sum_slices(u->collective, p->device, &sum);
        collective_join(u->collective, p->device);
    }
    u->added++;
}

void updater_set_loss_scale(struct updater *u, struct loss_scale l)
{
    CHECK(l.scale >= 1 && l.scale <= LOSS_SCALE_MOST);
    u->loss_scale = l;
}

/* As the op `update`, for weights of which the first `decayed` decay and the others do not. */
static void update_in_parts(struct updater *u, const struct update_args *all, int64_t decayed)
{
    struct device *d = u->parameters->device;
    double squares = 0;
    struct sum_squares_args sum = {all->count, all->gradient, &squares};
    d->backend->sum_squares(d, &sum);
    double norm = sqrt(squares) / all->loss_scale;
    *all->result = (struct update_result){norm, isfinite(norm)};
    double clipped = all->clip > 0 && norm > all->clip ? all->clip / norm : 1;
    for (int part = 0; part < 2 && all->result->applied; part++) {
        int64_t first = part ? decayed : 0;
        struct adamw_args step = {
            .count = part ? all->count - decayed : decayed,
            .parameter = all->parameter + first,
            .m = all->m + first,
            .v = all->v + first,
            .ema = all->ema + first,
            .gradient = all->gradient + first,
            .learning_rate = all->learning_rate,
            .beta1 = all->beta1,
            .beta2 = all->beta2,
            .epsilon = all->epsilon,
            .weight_decay = part ? 0 : all->weight_decay,
            .gradient_scale = clipped / all->loss_scale,
            .ema_decay = all->ema_decay,
            .step = all->step,
        };
        d->backend->adamw(d, &step);
    }
}

void updater_apply(struct updater *u, double learning_rate, double ema_decay,
                   struct update_result *result)
{
    struct parameters *p = u->parameters;
    u->added = 0;
    int64_t bounds[65];
    divide(u, bounds);
    struct share_slices_args share = {p->arrays[ARRAY_GRADIENTS]->data, bounds, sizeof(float)};
    collective_share_slices(u->collective, p->device, &share);
    collective_join(u->collective, p->device);
    struct update_args args = {
        .count = p->trained_elements,
        .parameter = p->arrays[ARRAY_WEIGHTS]->data,
        .m = p->arrays[ARRAY_M]->data,
        .v = p->arrays[ARRAY_V]->data,
        .ema = p->arrays[ARRAY_EMA]->data,
        .gradient = p->arrays[ARRAY_GRADIENTS]->data,
        .learning_rate = learning_rate,
        .beta1 = u->adamw.beta1,
        .beta2 = u->adamw.beta2,
        .epsilon = u->adamw.epsilon,
        .weight_decay = u->adamw.weight_decay,
        .ema_decay = ema_decay,
        .loss_scale = u->loss_scale.scale,
        .clip = u->clip,
        .step = p->updates + 1,
        .result = result,
    };
    *result = (struct update_result){0};
    if (p->decayed_elements == p->trained_elements)
        p->device->backend->update(p->device, &args);
    else
        update_in_parts(u, &args, p->decayed_elements);
    p->updates += result->applied;
}

bool updater_adjust_loss_scale(struct updater *u, bool applied)
{
    struct loss_scale *l = &u->loss_scale;
    if (u->parameters->device->compute != DTYPE_F16)
        return false;
    if (applied) {
        if (++l->updates >= LOSS_SCALE_PATIENCE && l->scale < LOSS_SCALE_MOST)
            *l = (struct loss_scale){2 * l->scale, 0};
        return false;
    }
    bool was_scaled = l->scale > 1;
    *l = (struct loss_scale){fmax(1, l->scale / 2), 0};
    return was_scaled;
}
