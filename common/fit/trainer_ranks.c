#include <inttypes.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "common/fit/launched.h"
#include "common/fit/trainer_ranks.h"
#include "common/train/collective_grouped.h"

static int64_t saved_number(const struct trainer *t, const char *name, int64_t otherwise)
{
    const char *text = training_state_option(&t->saved, name);
    return text ? strtoll(text, NULL, 10) : otherwise;
}

_Noreturn static void refuse_ranks(const struct trainer *t, int64_t effective)
{
    int64_t batch = t->loop->options.step.batch;
    char *fit = NULL;
    for (int n = 1; n <= RANKS_MAX; n++)
        if (effective % (batch * n) == 0)
            xappend(&fit, "%s%d", fit ? ", " : "", n);
    die("cannot resume from '%s': %" PRId64 " rank%s with --batch-size %" PRId64
        " cannot keep its effective batch of %" PRId64 ": --devices may be %s",
        t->origin.checkpoint, (int64_t)t->ranks_count, plural(t->ranks_count), batch, effective,
        fit);
}

void trainer_keep_effective_batch(struct trainer *t)
{
    struct step_options *o = &t->loop->options.step;
    int64_t ranks = t->ranks_count, before = saved_number(t, "ranks", 1);
    if (ranks == before || option_given("batch-size") || option_given("accumulate"))
        return;
    int64_t effective = o->batch * o->accumulate * before;
    if (effective % (o->batch * ranks) != 0)
        refuse_ranks(t, effective);
    int64_t accumulate = effective / (o->batch * ranks);
    xappend(&t->changes,
            "%s--devices %" PRId64 " instead of %" PRId64 ", --accumulate %" PRId64
            " instead of %" PRId64,
            t->changes ? ", " : "", ranks, before, accumulate, o->accumulate);
    o->accumulate = accumulate;
}

void trainer_choose_devices(struct trainer *t)
{
    if (!launched_join(&t->ranks)) {
        devices_parse(&t->devices, t->devices_text, common_options.device, DEVICES_ALL);
        t->ranks_count = t->devices.count;
        return;
    }
    t->ranks_count = t->ranks.collective->size;
    if (t->devices_text)
        die_usage("mpirun or srun has started %d rank%s: --devices cannot be given", t->ranks_count,
                  plural(t->ranks_count));
    devices_of_task(&t->devices, common_options.device, t->ranks.host_rank);
}

void trainer_start_ranks(struct trainer *t, const volatile sig_atomic_t *stop)
{
    t->loop->collective = collective_alone();
    t->loop->stop = stop;
    if (t->ranks.launched)
        launched_start(&t->ranks, stop, t->reads_stdin);
    else if (t->ranks_count > 1)
        ranks_start(&t->ranks, t->ranks_count, t->reads_stdin);
    if (t->ranks_count > 1) {
        t->loop->collective = t->ranks.collective;
        t->loop->stop = t->ranks.stop;
    }
    devices_select(&t->devices, t->ranks.launched ? 0 : t->loop->collective->rank);
}

void trainer_connect_gpus(struct trainer *t)
{
    struct error e;
    struct fit_loop *f = t->loop;
    if (f->collective->size == 1 || t->device->host_memory)
        return;
    int together = t->ranks.launched ? t->ranks.host_ranks : f->collective->size;
    if (collective_grouped(&f->collective, f->collective, t->device, together, &e) != 0)
        die("cannot connect the GPUs: %s", e.text);
}
