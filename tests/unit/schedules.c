/* Schedules of the learning rate and the EMA decay. */
#include <math.h>

#include "common/train/schedules.h"
#include "tests/support/tap.h"

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fabs(b) + 1e-18;
}

int main(void)
{
    struct learning_rate_options o = {.schedule = LEARNING_RATE_CONSTANT, .base = 3e-5};
    tap_ok(learning_rate_at(&o, 0) == 3e-5 && learning_rate_at(&o, 1000000) == 3e-5,
           "constant without warmup");
    o.warmup = 10;
    tap_ok(near(learning_rate_at(&o, 0), 3e-6) && near(learning_rate_at(&o, 4), 1.5e-5) &&
               near(learning_rate_at(&o, 9), 3e-5) && learning_rate_at(&o, 10) == 3e-5,
           "linear warmup reaches the base rate at its last step");
    o.schedule = LEARNING_RATE_COSINE;
    o.steps = 110;
    tap_ok(near(learning_rate_at(&o, 0), 3e-6), "cosine has warmup, too");
    tap_ok(near(learning_rate_at(&o, 10), 3e-5) && near(learning_rate_at(&o, 60), 1.5e-5) &&
               near(learning_rate_at(&o, 35), 3e-5 * (2 + sqrt(2)) / 4),
           "cosine decays from the end of warmup to the end of the run");
    bool falls = true;
    for (int i = 11; i <= 120; i++)
        falls &= learning_rate_at(&o, i) <= learning_rate_at(&o, i - 1);
    tap_ok(falls && learning_rate_at(&o, 109) > 0 && learning_rate_at(&o, 110) == 0 &&
               learning_rate_at(&o, 500) == 0,
           "cosine falls, is above 0 in the last step and 0 after it");
    o.warmup = o.steps = 10;
    tap_ok(near(learning_rate_at(&o, 9), 3e-5) && learning_rate_at(&o, 10) == 0,
           "a run of warmup only");

    struct learning_rate_options e = {.schedule = LEARNING_RATE_COSINE,
                                      .base = 1e-4,
                                      .warmup = 2000,
                                      .exponential_warmup = true,
                                      .steps = 10000};
    bool as_reference = learning_rate_at(&e, 0) == 0;
    for (int i = 1; i < 10000; i += 7) {
        double c = cos(i / 10000.0 * acos(0)), r = 1e-4 * c * c * (1 - pow(0.9995, i));
        as_reference &= fabs(learning_rate_at(&e, i) - r) <= 1e-9 * r;
    }
    tap_ok(as_reference && learning_rate_at(&e, 10000) == 0,
           "exponential warmup: cosine times 1 - .9995^step");
    e.warmup = 0;
    tap_ok(learning_rate_at(&e, 0) == 1e-4, "exponential warmup of 0 steps is none");

    tap_ok(ema_decay_at(1, 200000) == 0.99 && ema_decay_at(19999, 200000) == 0.99,
           "EMA decay .99 before update 20000");
    tap_ok(ema_decay_at(20000, 200000) == 0.999 && ema_decay_at(199999, 200000) == 0.999,
           "EMA decay .999 before update 200000");
    tap_ok(ema_decay_at(200000, 200000) == 0.9999 && ema_decay_at(9000000, 200000) == 0.9999,
           "EMA decay .9999 from there on");
    tap_ok(ema_decay_at(19999, 100) == 0.99 && ema_decay_at(20000, 100) == 0.9999,
           "a switch to .9999 does not come before update 20000");
    return tap_done();
}
