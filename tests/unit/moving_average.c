/* EMA takes in the weights of two updates with every second one. Nobody who reads it sees that:
 * after each update, it has the bits that a moving average per update gives. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/train/updater.h"
#include "tests/support/tap.h"
#include "tests/support/trained.h"

#define UPDATES 9
#define REFUSED 4 /* this update's gradient is not finite */

static struct device *device;

struct run {
    struct parameters *parameters;
    struct updater updater;
};

static void start(struct run *r)
{
    struct adamw_options adamw = ADAMW_DEFAULTS;
    struct architecture a = {0};
    architecture_add_linear(&a, 61, 83, "encoder.lin");
    r->parameters = parameters_new(&a, NET_KL, 3, device);
    architecture_release(&a);
    updater_init(&r->updater, r->parameters, collective_alone(), &adamw, 0, 1);
}

static double decay_at(uint64_t i)
{
    return 0.5 + 0.05 * (double)i;
}

static void update(struct run *r, uint64_t i)
{
    struct parameters *p = r->parameters;
    struct update_result result;
    float *g = xcalloc((size_t)p->trained_elements, sizeof *g);
    for (int t = 0; t < p->trained_count; t++)
        rng_normal(g + p->tensors[t].offset, (size_t)p->tensors[t].count, 5, RNG_SHAPES, i,
                   (uint64_t)t, 0);
    if (i == REFUSED)
        g[0] = NAN;
    parameters_write(p, ARRAY_GRADIENTS, 0, p->trained_elements, g);
    updater_apply(&r->updater, 1e-2, decay_at(i), &result);
    CHECK(result.applied == (i != REFUSED));
    free(g);
}

static void stop(struct run *r)
{
    updater_release(&r->updater);
    parameters_free(r->parameters);
}

/* The average after each update: of a run whose EMA is read then, of one whose EMA is read only
 * then, and as one average per update gives it. */
static void compare(void)
{
    struct run often;
    start(&often);
    const struct parameters *p = often.parameters;
    size_t bytes = (size_t)p->trained_elements * sizeof(float);
    float *expected = memcpy(xmalloc(bytes), trained_values(p, ARRAY_EMA), bytes);
    bool same_often = true, same_once = true;
    for (uint64_t i = 0; i < UPDATES; i++) {
        struct run once;
        update(&often, i);
        start(&once);
        for (uint64_t k = 0; k <= i; k++)
            update(&once, k);
        struct moving_average_args average = {p->trained_elements, expected,
                                              trained_values(p, ARRAY_WEIGHTS), decay_at(i)};
        if (i != REFUSED)
            device->backend->moving_average(device, &average);
        same_often &= !memcmp(expected, trained_values(p, ARRAY_EMA), bytes);
        same_once &= !memcmp(expected, trained_values(once.parameters, ARRAY_EMA), bytes) &&
                     trained_same_bits(p, once.parameters, ARRAY_WEIGHTS);
        stop(&once);
    }
    tap_ok(same_often, "EMA that is read after each update has the bits of an average per update");
    tap_ok(same_once, "and so has EMA that was not read before");
    free(expected);
    stop(&often);
}

/* As when a run is resumed after an odd number of updates, whose EMA is not read before. */
static void rewritten(void)
{
    struct run a, b;
    start(&a);
    start(&b);
    for (uint64_t i = 0; i < 3; i++)
        update(&a, i);
    for (int which = 0; which < ARRAY_COUNT; which++)
        parameters_write(b.parameters, which, 0, a.parameters->trained_elements,
                         trained_values(a.parameters, which));
    b.parameters->updates = a.parameters->updates;
    update(&a, 5);
    update(&b, 5);
    tap_ok(trained_same_bits(a.parameters, b.parameters, ARRAY_EMA),
           "a run that goes on from a copy has the same EMA");
    update(&a, 6);
    const float one = 1, *ema = trained_values(b.parameters, ARRAY_EMA);
    float before = *ema, weight = *trained_values(b.parameters, ARRAY_WEIGHTS);
    b.parameters->ema_is_behind = true;
    b.parameters->ema_decay_before = 0.5;
    parameters_write(b.parameters, ARRAY_WEIGHTS, 0, 1, &one);
    tap_ok(*ema == 0.5f * before + 0.5f * weight, "EMA takes in a weight before it is replaced");
    parameters_restart_ema(a.parameters);
    tap_ok(!memcmp(trained_values(a.parameters, ARRAY_EMA),
                   trained_values(a.parameters, ARRAY_WEIGHTS),
                   (size_t)a.parameters->trained_elements * sizeof(float)),
           "a restarted EMA is a copy of the weights and waits for nothing");
    stop(&a);
    stop(&b);
}

/* How many updates wrote EMA. */
static const struct backend *usual;
static int averaged;

static void count_update(struct device *d, const struct update_args *a)
{
    averaged += a->ema != NULL;
    usual->update(d, a);
}

static void halved(void)
{
    struct run r;
    start(&r);
    usual = device->backend;
    struct backend counting = *usual;
    counting.update = count_update;
    device->backend = &counting;
    for (uint64_t i = 0; i < REFUSED; i++)
        update(&r, i);
    device->backend = usual;
    tap_ok(averaged == REFUSED / 2, "%d updates read and write EMA %d times", REFUSED, averaged);
    stop(&r);
}

int main(void)
{
    struct error e;
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    compare();
    rewritten();
    halved();
    device_close(device);
    return tap_done();
}
