#include "common/fit/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"

/* What libraries need to work in, and what does not fit into the gaps. */
#define MARGIN ((int64_t)1 << 30)

static int64_t needed_with(const struct fit *f, const struct unet_step_options *o,
                           const struct device *like)
{
    const struct shard_info *info = latent_set_info(f->data);
    struct architecture architecture = parameters_architecture(f->parameters);
    int64_t bytes =
        unet_step_memory(&architecture, o, like, info->latent_height, info->latent_width);
    architecture_release(&architecture);
    return bytes;
}

int64_t fit_memory(const struct fit *f)
{
    const struct parameters *p = f->parameters;
    int64_t needed = needed_with(f, &f->options.step, p->device);
    double array = (double)p->elements * sizeof(float);
    double trained = (double)p->trained_elements * sizeof(float);
    double rest = (double)needed - 2 * array - 3 * trained;
    char one[32], average[32], gradients[32], moments[32], step[32];
    note("memory: weights %s, their average %s, gradients %s, moments %s, a step of %" PRId64
         " images in %s %s",
         format_bytes(one, array), format_bytes(average, array), format_bytes(gradients, trained),
         format_bytes(moments, 2 * trained), f->options.step.batch, device_precision(p->device),
         format_bytes(step, rest));
    return needed;
}

struct remedy {
    struct unet_step_options step;
    struct device like;
    char text[160];
};

/* The largest batch that fits, as the same effective batch in more parts. */
static bool find_batch(struct remedy *r, const struct fit *f, int64_t available)
{
    int64_t effective = r->step.batch * r->step.accumulate;
    for (int64_t batch = r->step.batch; batch >= 1; batch--) {
        if (effective % batch != 0)
            continue;
        r->step.batch = batch;
        r->step.accumulate = effective / batch;
        int64_t needed = needed_with(f, &r->step, &r->like);
        if (needed > available)
            continue;
        char bytes[32];
        int n = 0;
        if (r->like.compute != f->parameters->device->compute)
            n += snprintf(r->text, sizeof r->text, "--precision %s ", device_precision(&r->like));
        if (r->step.recompute != f->options.step.recompute)
            n += snprintf(r->text + n, sizeof r->text - (size_t)n, "--recompute ");
        if (batch != f->options.step.batch)
            n += snprintf(r->text + n, sizeof r->text - (size_t)n,
                          "--batch-size %" PRId64 " --accumulate %" PRId64 " ", batch,
                          r->step.accumulate);
        snprintf(r->text + n, sizeof r->text - (size_t)n, "takes %s",
                 format_bytes(bytes, (double)needed));
        return true;
    }
    return false;
}

/* INT64_MAX: not known. */
static int64_t available_memory(struct device *d)
{
    size_t left = device_memory_left(d);
    return left == SIZE_MAX ? INT64_MAX : (int64_t)(left + device_memory(d).in_use) - MARGIN;
}

static char *refusal(int64_t needed, int64_t available)
{
    char wanted[32], there[32];
    return xasprintf("it takes %s, the device has %s", format_bytes(wanted, (double)needed),
                     format_bytes(there, (double)available));
}

int fit_check_batch_memory(struct device *d, int64_t batch, int64_t accumulate,
                           int64_t (*needed)(const void *context, int64_t batch,
                                             int64_t accumulate),
                           const void *context, struct error *e)
{
    int64_t available = available_memory(d), effective = batch * accumulate;
    int64_t bytes = needed(context, batch, accumulate);
    if (bytes <= available)
        return 0;
    char *text = refusal(bytes, available), takes[32];
    error_set(e, "%s", text);
    free(text);
    while (--batch >= 1) {
        if (effective % batch != 0)
            continue;
        bytes = needed(context, batch, effective / batch);
        if (bytes > available)
            continue;
        struct error without = *e;
        return error_set(e, "%s; --batch-size %" PRId64 " --accumulate %" PRId64 " takes %s",
                         without.text, batch, effective / batch,
                         format_bytes(takes, (double)bytes));
    }
    struct error without = *e;
    return error_set(e, "%s; no batch fits", without.text);
}

int fit_check_memory(const struct fit *f, int64_t needed, struct error *e)
{
    struct device *d = f->parameters->device;
    int64_t available = available_memory(d);
    if (needed <= available)
        return 0;
    char *text = refusal(needed, available);
    bool fits = false;
    static const struct {
        bool recompute, bf16;
    } ways[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct remedy r = {.step = f->options.step, .like = *d};
        if ((ways[i].recompute && r.step.recompute) ||
            (ways[i].bf16 && (d->host_memory || r.like.compute != DTYPE_F32)))
            continue;
        r.step.recompute |= ways[i].recompute;
        if (ways[i].bf16)
            r.like.compute = DTYPE_BF16;
        if (!find_batch(&r, f, available))
            continue;
        char *longer = xasprintf("%s; %s", text, r.text);
        free(text);
        text = longer;
        fits = true;
    }
    error_set(e, "%s%s", text, fits ? "" : "; no batch fits");
    free(text);
    return -1;
}
