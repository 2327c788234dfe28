#include "common/train/step.h"

#include <stdlib.h>

#include "common/base/message.h"

const char *const optimizers[] = {"adamw", "muon", NULL};

int64_t step_effective_batch(const struct step_options *o, const struct collective *c)
{
    return o->batch * o->accumulate * c->size;
}

int64_t step_position(const struct step_options *o, const struct collective *c, int64_t k)
{
    return (k * c->size + c->rank) * o->batch;
}

void step_sum(const struct step_options *o, struct collective *c, const double *values, int width,
              double *sums)
{
    size_t batch = (size_t)(o->batch * width), own = batch * (size_t)o->accumulate;
    double *all = xcalloc(own * (size_t)c->size, sizeof *all);
    collective_gather(c, values, all, own * sizeof *all);
    for (int j = 0; j < width; j++)
        sums[j] = 0;
    for (int64_t k = 0; k < o->accumulate; k++)
        for (int r = 0; r < c->size; r++) {
            const double *part = all + (size_t)r * own + (size_t)k * batch;
            for (size_t i = 0; i < batch; i++)
                sums[i % (size_t)width] += part[i];
        }
    free(all);
}

bool step_agree(void *collective, bool recorded)
{
    double failures = !recorded;
    collective_sum(collective, &failures, 1);
    return failures == 0;
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
