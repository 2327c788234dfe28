#include "common/fit/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "common/base/progress.h"

/* Bytes of a GPU left free: for the workspace of a convolution, at most 1 GiB
 * (kernels/cuda/cudnn.cu), the ops' other scratch memory, libraries and fragmentation. */
#define MARGIN ((int64_t)2 << 30)

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

/* Bytes that a rank needs with these options on a device like this one. */
static int64_t needed_with(const struct fit_loop *f, const struct step_options *o,
                           const struct device *like)
{
    struct batch_reader_options reader = fit_loop_reader_options(f);
    int64_t bytes = f->functions->memory(f, o, like);
    reader.batch = o->batch;
    reader.accumulate = o->accumulate;
    return like->host_memory ? memory_needed(bytes + f->functions->data_memory(f, &reader)) : bytes;
}

int64_t fit_memory(const struct fit_loop *f, const struct device *d)
{
    int64_t needed = needed_with(f, &f->options.step, d);
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
        r->needed = needed_with(f, &r->step, &r->like);
        if (r->needed <= available)
            return true;
    }
    return false;
}

/* "--recompute --batch-size 4 --accumulate 16 needs 3.1 GB" */
static void add_remedy(struct error *e, const struct remedy *r, const struct fit_loop *f,
                       const struct device *d)
{
    const struct step_options *now = &f->options.step;
    struct error before = *e;
    char precision[32] = "", batch[64] = "", bytes[32];
    if (r->like.compute != d->compute)
        snprintf(precision, sizeof precision, "--precision %s ", device_precision(&r->like));
    if (r->step.batch != now->batch)
        snprintf(batch, sizeof batch, "--batch-size %" PRId64 " --accumulate %" PRId64 " ",
                 r->step.batch, r->step.accumulate);
    error_set(e, "%s; %s%s%sneeds %s", before.text, precision,
              r->step.recompute != now->recompute ? "--recompute " : "", batch,
              format_bytes(bytes, (double)r->needed));
}

/* Adds to e what would fit. */
static void add_remedies(struct error *e, const struct fit_loop *f, const struct device *d,
                         int64_t available)
{
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
            add_remedy(e, &r, f, d);
            fits = true;
        }
    }
    if (!fits) {
        struct error before = *e;
        error_set(e, "%s; no batch size fits", before.text);
    }
}

/* What a rank has, for all to see. */
struct left {
    char host[64], name[32];
    int64_t bytes;
    int processes;
};

/* The ranks of this rank's host. */
static int ranks_beside(struct collective *c)
{
    struct left own = {.bytes = 0}, *all = xcalloc((size_t)c->size, sizeof *all);
    gethostname(own.host, sizeof own.host - 1);
    collective_gather(c, &own, all, sizeof own);
    int count = 0;
    for (int r = 0; r < c->size; r++)
        count += !strcmp(all[r].host, own.host);
    free(all);
    return count;
}

/* What the rank with the least has. */
static struct left least_left(struct collective *c, struct device *d)
{
    struct left own = {.processes = 1}, *all = xcalloc((size_t)c->size, sizeof *all);
    if (d->host_memory) {
        struct memory_limit l = memory_limit_left(ranks_beside(c), "");
        own.bytes = l.bytes;
        own.processes = l.processes;
        snprintf(own.name, sizeof own.name, "%s", l.name);
    } else {
        size_t left = device_memory_left(d);
        own.bytes =
            left == SIZE_MAX ? INT64_MAX : (int64_t)(left + device_memory(d).in_use) - MARGIN;
    }
    collective_gather(c, &own, all, sizeof own);
    for (int r = 0; r < c->size; r++)
        if (all[r].bytes < own.bytes)
            own = all[r];
    free(all);
    return own;
}

int fit_check_memory(const struct fit_loop *f, struct device *d, int64_t needed, struct error *e)
{
    struct left left = least_left(f->collective, d);
    char needs[32], has[32];
    if (needed <= left.bytes)
        return 0;
    if (d->host_memory)
        memory_limit_check(&(struct memory_limit){left.bytes, left.name, left.processes},
                           "training", needed, e);
    else
        error_set(e, "training needs %s, the device has %s", format_bytes(needs, (double)needed),
                  format_bytes(has, (double)left.bytes));
    add_remedies(e, f, d, left.bytes);
    return -1;
}
