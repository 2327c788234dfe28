#include "common/fit/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/progress.h"

/* Bytes left free for libraries and fragmentation. */
#define MARGIN ((int64_t)1 << 30)

/* Bytes that a rank holds all the time. */
struct held {
    int64_t weights, ema, gradients, moments;
};

static struct held held_by_rank(const struct fit_loop *f)
{
    const struct step_options *o = &f->options.step;
    struct held h = {0};
    for (const struct parameters *p = f->parameters; p; p = p->companion) {
        const int64_t size = sizeof(float);
        bool sharded = parameters_are_sharded(p);
        int64_t own = sharded ? slices_owned(&p->slices) : p->trained_elements;
        h.weights += p->elements * size;
        h.ema += (sharded ? own : p->elements) * size;
        h.gradients += own * size;
        if (o->accumulate * f->collective->size > 1) /* those of a micro-batch, too */
            h.gradients += p->trained_elements * size;
        h.moments += 2 * own * size;
    }
    return h;
}

int64_t fit_memory(const struct fit_loop *f)
{
    const struct device *d = f->parameters->device;
    int64_t needed = f->functions->memory(f, &f->options.step, d);
    struct held h = held_by_rank(f);
    int64_t rest = needed - h.weights - h.ema - h.gradients - h.moments;
    char weights[32], ema[32], gradients[32], moments[32], step[32];
    note("memory%s: weights %s, EMA %s, gradients %s, optimizer moments %s, a micro-batch of "
         "%" PRId64 " in %s %s",
         f->collective->size > 1 ? " of each rank" : "", format_bytes(weights, (double)h.weights),
         format_bytes(ema, (double)h.ema), format_bytes(gradients, (double)h.gradients),
         format_bytes(moments, (double)h.moments), f->options.step.batch, device_precision(d),
         format_bytes(step, (double)(rest > 0 ? rest : 0)));
    return needed;
}

/* A way to need less memory. */
struct remedy {
    struct step_options step;
    struct device like;
    int64_t needed;
};

/* The largest micro-batch that fits, with the effective batch size unchanged. */
static bool find_batch(struct remedy *r, const struct fit_loop *f, int64_t available)
{
    int64_t effective = r->step.batch * r->step.accumulate;
    for (int64_t batch = r->step.batch; batch >= 1; batch--) {
        if (effective % batch != 0)
            continue;
        r->step.batch = batch;
        r->step.accumulate = effective / batch;
        r->needed = f->functions->memory(f, &r->step, &r->like);
        if (r->needed <= available)
            return true;
    }
    return false;
}

/* "--recompute --batch-size 4 --accumulate 16 needs 3.1 GB" */
static void add_remedy(struct error *e, const struct remedy *r, const struct fit_loop *f)
{
    const struct step_options *now = &f->options.step;
    struct error before = *e;
    char precision[32] = "", batch[64] = "", bytes[32];
    if (r->like.compute != f->parameters->device->compute)
        snprintf(precision, sizeof precision, "--precision %s ", device_precision(&r->like));
    if (r->step.batch != now->batch)
        snprintf(batch, sizeof batch, "--batch-size %" PRId64 " --accumulate %" PRId64 " ",
                 r->step.batch, r->step.accumulate);
    error_set(e, "%s; %s%s%sneeds %s", before.text, precision,
              r->step.recompute != now->recompute ? "--recompute " : "", batch,
              format_bytes(bytes, (double)r->needed));
}

int fit_check_memory(const struct fit_loop *f, int64_t needed, struct error *e)
{
    struct device *d = f->parameters->device;
    size_t left = device_memory_left(d);
    if (left == SIZE_MAX) /* not known */
        return 0;
    size_t sharing = d->host_memory ? (size_t)f->collective->size : 1;
    int64_t available = (int64_t)(left / sharing + device_memory(d).in_use) - MARGIN;
    if (needed <= available)
        return 0;
    char needs[32], has[32];
    error_set(e, "training needs %s, the device has %s%s", format_bytes(needs, (double)needed),
              format_bytes(has, (double)available), sharing > 1 ? " for each rank" : "");
    bool fits = false;
    static const struct {
        bool recompute, bf16;
    } ways[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct remedy r = {.step = f->options.step, .like = *d};
        if ((ways[i].recompute && (r.step.recompute || !f->functions->can_recompute)) ||
            (ways[i].bf16 && (d->host_memory || r.like.compute != DTYPE_F32)))
            continue;
        r.step.recompute |= ways[i].recompute;
        if (ways[i].bf16)
            r.like.compute = DTYPE_BF16;
        if (find_batch(&r, f, available)) {
            add_remedy(e, &r, f);
            fits = true;
        }
    }
    if (fits)
        return -1;
    struct error before = *e;
    return error_set(e, "%s; no batch size fits", before.text);
}
