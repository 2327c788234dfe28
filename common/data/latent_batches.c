#include <stdlib.h>

#include "common/base/message.h"
#include "common/data/embed_neighbours.h"
#include "common/data/latent_set.h"
#include "common/data/latent_set_internal.h"

/* Memory for one micro-batch. */
struct slot {
    struct latent_batch batch;
    float *moments, *embeds;
    uint64_t *samples;
    struct unreadable_list skipped;
    struct shard_record record;
};

struct latent_reader {
    struct latent_set *latent_set;
    struct batch_reader_options options;
    const struct embed_neighbours *neighbours;
    struct read_ahead *ahead;
};

/* Reads the record at a place in the epoch, or at the next readable one, as image i of a batch. */
static int fill_one(const struct latent_reader *r, struct slot *slot, const struct batch_place *at,
                    int64_t i, struct error *e)
{
    const struct shard_info *info = latent_set_info(r->latent_set);
    float *moments = slot->moments + (size_t)i * 2 * shard_latent_count(info);
    float *embed = slot->embeds + (size_t)i * (size_t)info->embed_size;
    int64_t count = latent_set_training_count(r->latent_set);
    for (int64_t tried = 0; tried < count; tried++) {
        int64_t place = (at->first + i + tried) % count;
        int64_t record = latent_set_record_at(r->latent_set, r->options.seed, at->at.epoch, place);
        slot->samples[i] = (uint64_t)record;
        int status = latent_set_read(r->latent_set, record, &slot->record, moments, embed, e);
        if (status != SHARD_RECORD_DAMAGED)
            return status;
        unreadable_list_add(&slot->skipped, record);
    }
    return error_set(e, "all records are damaged");
}

static int fill(void *context, void *memory, const struct batch_place *at, struct error *e)
{
    const struct latent_reader *r = context;
    struct slot *slot = memory;
    slot->batch.step = at->step;
    slot->batch.micro_batch = at->micro_batch;
    slot->batch.at = at->at;
    slot->skipped.count = 0;
    int status = 0;
    for (int64_t i = 0; i < r->options.batch && status == 0; i++)
        status = fill_one(r, slot, at, i, e);
    if (status == 0 && r->neighbours)
        embed_neighbours_mix(r->neighbours, slot->embeds, r->options.batch, slot->samples,
                             at->step);
    return status;
}

static void *slot_new(void *context)
{
    const struct latent_reader *r = context;
    const struct shard_info *info = latent_set_info(r->latent_set);
    size_t n = (size_t)r->options.batch;
    struct slot *s = xcalloc(1, sizeof *s);
    s->moments = xmalloc(n * 2 * shard_latent_count(info) * sizeof *s->moments);
    s->embeds = xmalloc(n * (size_t)info->embed_size * sizeof *s->embeds);
    s->samples = xmalloc(n * sizeof *s->samples);
    s->batch.data = (struct unet_batch){.n = r->options.batch,
                                        .height = info->latent_height,
                                        .width = info->latent_width,
                                        .moments = s->moments,
                                        .embeds = s->embeds,
                                        .samples = s->samples};
    shard_record_init(&s->record);
    return s;
}

static void slot_free(void *memory)
{
    struct slot *s = memory;
    shard_record_release(&s->record);
    free(s->moments);
    free(s->embeds);
    free(s->samples);
    unreadable_list_release(&s->skipped);
    free(s);
}

int latent_reader_open(struct latent_reader **out, struct latent_set *d,
                       const struct embed_neighbours *neighbours,
                       const struct batch_reader_options *o, struct error *e)
{
    static const struct read_ahead_functions functions = {
        .slot_new = slot_new, .slot_free = slot_free, .fill = fill};
    struct latent_reader *r = xcalloc(1, sizeof *r);
    r->latent_set = d;
    r->neighbours = neighbours;
    r->options = *o;
    if (read_ahead_open(&r->ahead, &functions, r, latent_set_order(d), o, e) != 0) {
        free(r);
        return -1;
    }
    *out = r;
    return 0;
}

int64_t latent_reader_memory(const struct latent_set *d, const struct batch_reader_options *o)
{
    const struct shard_info *info = latent_set_info(d);
    size_t record = 2 * shard_latent_count(info) + (size_t)info->embed_size;
    return read_ahead_slots(o) * o->batch * (int64_t)(record * sizeof(float));
}

void latent_reader_close(struct latent_reader *r)
{
    if (!r)
        return;
    read_ahead_close(r->ahead);
    free(r);
}

int latent_reader_next(struct latent_reader *r, const struct latent_batch **b, struct error *e)
{
    void *slot;
    if (read_ahead_next(r->ahead, &slot, e) != 0)
        return -1;
    *b = &((struct slot *)slot)->batch;
    unreadable_meet_all(latent_set_unreadable(r->latent_set), &((struct slot *)slot)->skipped);
    return 0;
}

double latent_reader_waited(const struct latent_reader *r)
{
    return read_ahead_waited(r->ahead);
}
