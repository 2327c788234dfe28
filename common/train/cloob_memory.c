#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/cloob_step.h"

static void dry_batch(struct cloob_batch *b, const struct cloob_step *s, int64_t n)
{
    int64_t size = cloob_step_sizes(s)->image_size;
    *b = (struct cloob_batch){
        .n = n,
        .images = xcalloc((size_t)(3 * n * size * size), sizeof(float)),
        .tokens = xcalloc((size_t)(n * cloob_step_sizes(s)->context), sizeof(int32_t)),
        .samples = xcalloc((size_t)n, sizeof(uint64_t)),
    };
}

static void dry_batch_release(struct cloob_batch *b)
{
    free((void *)b->images);
    free((void *)b->tokens);
    free((void *)b->samples);
}

/* What a dry run does. */
enum { STEP = 1, EVALUATION = 2 };

struct plan {
    const struct architecture *architecture;
    const struct step_options *options;
    const struct cloob_step_options *loss;
    const struct device *like;
    int ranks;
    int64_t evaluated;
};

static void run_step(struct cloob_step *s, const struct step_options *o)
{
    struct cloob_batch batch;
    struct step_result r;
    dry_batch(&batch, s, o->batch);
    for (int64_t i = 0; i < o->accumulate; i++)
        cloob_step_micro_batch(s, &batch);
    dry_batch_release(&batch);
    cloob_step_update(s, 0, 0, &r);
}

static void run_evaluation(struct cloob_step *s, int64_t n)
{
    struct cloob_batch batch;
    int64_t width = cloob_step_sizes(s)->embed_width;
    float *embeds = xcalloc((size_t)(2 * n * width), sizeof *embeds);
    dry_batch(&batch, s, n);
    cloob_step_embed(s, ARRAY_EMA, &batch, embeds, embeds + n * width);
    dry_batch_release(&batch);
    free(embeds);
}

/* Peak memory; without a step, less what is always allocated. */
static int64_t dry_run(const struct plan *plan, int what)
{
    struct device *d = device_open_dry(plan->like);
    struct collective dry = collective_dry(plan->ranks);
    struct parameters *p = parameters_empty(plan->architecture, NET_CLOOB, d);
    struct cloob_step *s;
    struct error e;
    CHECK(cloob_step_open(&s, p, &dry, plan->options, plan->loss, &e) == 0);
    int64_t held = what & STEP ? 0 : (int64_t)device_memory(d).in_use;
    if (what & STEP)
        run_step(s, plan->options);
    if (what & EVALUATION && plan->evaluated > 0)
        run_evaluation(s, plan->evaluated);
    int64_t bytes = device_dry_memory(d) - held;
    cloob_step_close(s);
    parameters_free(p);
    device_close(d);
    return bytes;
}

int64_t cloob_step_memory(const struct architecture *architecture, const struct step_options *o,
                          const struct cloob_step_options *l, const struct device *like, int ranks,
                          int64_t evaluated)
{
    struct plan plan = {architecture, o, l, like, ranks, evaluated};
    if (!like->backend->record_begin || evaluated == 0)
        return dry_run(&plan, STEP | EVALUATION);
    /* Replayed work keeps its memory during an evaluation. */
    return dry_run(&plan, STEP) + dry_run(&plan, EVALUATION);
}
