#include "common/diffusion/sample_memory.h"

#include <stdlib.h>

#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "kernels/device.h"

/* As many steps as it takes until a sampler keeps all that it ever keeps. */
#define STEPS 6

static bool has_prompt(const struct conditionings *c, bool is_image)
{
    for (int i = 0; i < c->count; i++)
        for (int j = 0; j < c->items[i].count; j++)
            if (c->items[i].prompts[j].is_image == is_image)
                return true;
    return false;
}

/* any: prompts of either kind may follow. */
static void embed(struct tape *t, const struct cloob *cloob, const struct conditionings *c,
                  bool any)
{
    const struct cloob_sizes *sizes = cloob_sizes(cloob);
    int64_t side = sizes->image_size;
    if ((any || has_prompt(c, false)) && sizes->has_text) {
        int32_t *row = xcalloc((size_t)sizes->context, sizeof *row);
        tensor_release(cloob_text(t, cloob, row, 1));
        free(row);
    }
    if ((any || has_prompt(c, true)) && sizes->has_image) {
        struct tensor *image = tensor_new(t->device, DTYPE_F32, DIMS(1, 3, side, side));
        tensor_release(cloob_image(t, cloob, image));
        tensor_release(image);
    }
}

static void encode_init(struct tape *t, const struct kl *kl, const struct sample_options *o)
{
    struct tensor *image = tensor_new(t->device, DTYPE_F32, DIMS(1, 3, o->height, o->width));
    tensor_release(kl_encode(t, kl, image));
    tensor_release(image);
}

static int keep_nothing(void *context, const struct image *image, int conditioning, int64_t index,
                        struct error *e)
{
    return 0;
}

/* The conditioning for which the U-Net runs on most rows. */
static const struct conditioning *largest(const struct conditionings *c)
{
    const struct conditioning *found = NULL;
    int most = -1;
    for (int i = 0; i < c->count; i++) {
        int weighted = 0;
        for (int j = 0; j <= c->items[i].count; j++)
            weighted += c->items[i].weights[j] != 0;
        if (weighted > most) {
            most = weighted;
            found = &c->items[i];
        }
    }
    return found;
}

/* One batch, as large as there are images for. */
static int run(struct tape *t, const struct model *m, const struct sample_options *o,
               const struct conditionings *c, struct error *e)
{
    struct conditioning one = *largest(c);
    struct conditionings alone = {.items = &one, .count = 1};
    struct sample_options few = *o;
    if (o->init)
        encode_init(t, m->kl, o);
    few.init = NULL;
    few.more = NULL;
    few.silent = true;
    few.embed_noise = 0;
    few.steps = o->steps < STEPS ? o->steps : STEPS;
    few.first = 0;
    few.count *= c->count;
    if (few.count > o->batch_size || o->more)
        few.count = o->batch_size;
    size_t width = (size_t)unet_sizes(m->unet)->embed_width;
    one.embeds = xcalloc((size_t)one.count * width, sizeof *one.embeds);
    int status = sample_run(t, &few, m->unet, m->kl, &alone, keep_nothing, NULL, e);
    free(one.embeds);
    return status;
}

int sample_memory_plan(struct sample_memory *out, struct model *m, const struct sample_options *o,
                       const struct conditionings *c, const struct device *like, struct error *e)
{
    struct device *d = device_open_dry(like);
    struct tape tape;
    tape_init(&tape, d);
    int status = model_load(m, d, e);
    if (status == 0) {
        embed(&tape, m->cloob, c, o->more != NULL);
        if (!o->more)
            model_unload(m, MODEL_CLOOB);
        device_trim(d);
        status = run(&tape, m, o, c, e);
    }
    int64_t pixels = (int64_t)o->height * o->width;
    /* Of an image: floats and bytes per channel. */
    out->tensors = device_dry_memory(d);
    out->process = memory_needed(out->tensors + 3 * pixels * (int64_t)(sizeof(float) + 1));
    model_unload(m, MODEL_ALL);
    tape_release(&tape);
    device_close(d);
    return status;
}
