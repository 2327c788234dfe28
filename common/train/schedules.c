#include "common/train/schedules.h"

#include <math.h>
#include <stddef.h>

const char *const learning_rate_schedules[] = {"constant", "cosine", NULL};

double learning_rate_at(const struct learning_rate_options *o, int64_t step)
{
    const double pi = 3.14159265358979323846;
    if (o->exponential_warmup) {
        struct learning_rate_options without = {
            .schedule = o->schedule, .base = o->base, .steps = o->steps};
        double not_yet = o->warmup > 0 ? pow(1 - 1 / (double)o->warmup, (double)step) : 0;
        return learning_rate_at(&without, step) * (1 - not_yet);
    }
    if (step < o->warmup)
        return o->base * (double)(step + 1) / (double)o->warmup;
    if (o->schedule == LEARNING_RATE_CONSTANT)
        return o->base;
    if (step >= o->steps)
        return 0;
    double done = (double)(step - o->warmup) / (double)(o->steps - o->warmup);
    return o->base * 0.5 * (1 + cos(pi * done));
}

double ema_decay_at(int64_t updates, int64_t decay_at)
{
    if (updates < 20000)
        return 0.99;
    return updates < decay_at ? 0.999 : 0.9999;
}
