#include "common/train/cloob_gather.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

bool cloob_gather_is_on_device(const struct collective *c)
{
    return c->shards == c->size;
}

static void share(struct collective *c, const struct step_options *o, struct tensor *embeds)
{
    int64_t part = o->batch * tensor_last(embeds);
    int64_t *bounds = xmalloc((size_t)(c->size + 1) * sizeof *bounds);
    for (int r = 0; r <= c->size; r++)
        bounds[r] = r * part;
    for (int64_t k = 0; k < o->accumulate; k++) {
        float *rows = (float *)embeds->data + k * c->size * part;
        struct share_slices_args args = {rows, bounds, sizeof *rows};
        collective_share_slices(c, embeds->device, &args);
    }
    free(bounds);
}

static void gather(struct collective *c, const struct step_options *o, struct tensor *embeds)
{
    size_t ranks = (size_t)c->size, accumulate = (size_t)o->accumulate;
    size_t part = (size_t)(o->batch * tensor_last(embeds)), own = part * accumulate;
    float *rows = tensor_to_host(embeds), *mine = xmalloc(own * sizeof *mine),
          *all = xmalloc(ranks * own * sizeof *all);
    for (size_t k = 0; k < accumulate; k++)
        memcpy(mine + k * part, rows + (k * ranks + (size_t)c->rank) * part, part * sizeof *rows);
    collective_gather(c, mine, all, own * sizeof *mine);
    for (size_t k = 0; k < accumulate; k++)
        for (size_t r = 0; r < ranks; r++)
            memcpy(rows + (k * ranks + r) * part, all + r * own + k * part, part * sizeof *rows);
    tensor_upload(embeds, rows);
    free(rows);
    free(mine);
    free(all);
}

void cloob_gather(struct collective *c, const struct step_options *o, struct tensor *embeds)
{
    if (c->size == 1)
        return;
    if (cloob_gather_is_on_device(c))
        share(c, o, embeds);
    else
        gather(c, o, embeds);
}
