#include "common/train/step.h"

int64_t step_effective_batch(const struct step_options *o, const struct collective *c)
{
    return o->batch * o->accumulate * c->size;
}

int64_t step_position(const struct step_options *o, const struct collective *c, int64_t k)
{
    return (k * c->size + c->rank) * o->batch;
}

bool step_judge(struct step_result *r, struct updater *u, const struct update_result *update,
                double loss, bool finite)
{
    *r = (struct step_result){
        .loss = loss,
        .gradient_norm = update->gradient_norm,
        .applied = update->applied,
    };
    r->rescaled = updater_adjust_loss_scale(u, r->applied) && finite;
    return !r->applied && !r->rescaled;
}
