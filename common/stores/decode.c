#include "common/stores/decode.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "common/images/prepare.h"
#include "formats/images/image_stream.h"

static int check_model(const struct model *m, const struct shard_info *info, struct error *e)
{
    const struct model_part *part = &m->autoencoder_part;
    char hash[ENCODER_HASH_SIZE];
    names_encoder_hash(hash, &part->names);
    if (encoder_hashes_differ(info->autoencoder.encoder, hash))
        return error_set(e,
                         "the store was made with the autoencoder '%s', whose weights differ from "
                         "those of '%s': name the right model with -m",
                         info->autoencoder.name, part->path);
    return 0;
}

static int check_shapes(const struct model *m, const struct shard_info *i, struct error *e)
{
    const struct kl_sizes *kl = kl_sizes(m->kl);
    if (kl->latent_channels != i->latent_channels ||
        kl->factor * i->latent_height != i->image_height ||
        kl->factor * i->latent_width != i->image_width)
        return error_set(e, "the latents, %dx%dx%d for images of %dx%d, are not those of '%s'",
                         i->latent_channels, i->latent_height, i->latent_width, i->image_height,
                         i->image_width, m->autoencoder_part.path);
    return 0;
}

static int write_image(FILE *out, const struct image *image, const struct shard_record *r,
                       int64_t index, struct error *e)
{
    struct image_remarks remarks = {0};
    char number[32];
    snprintf(number, sizeof number, "%" PRId64, index);
    image_remarks_set(&remarks, "path", r->path);
    image_remarks_set(&remarks, "index", number);
    int status = image_stream_write(out, image, &remarks, e);
    image_remarks_release(&remarks);
    return status;
}

static int decode(FILE *out, const struct shard_info *i, const struct shard_record *r,
                  int64_t index, const struct model *m, struct tape *t, struct error *e)
{
    size_t count = shard_latent_count(i), pixels = (size_t)i->image_height * (size_t)i->image_width;
    float *mean = xmalloc(count * sizeof *mean), *x = xmalloc(3 * pixels * sizeof *x);
    dtype_to_f32(mean, DTYPE_F16, r->moments, count);
    struct tensor *z = tensor_from_f32(
        t->device, DIMS(1, i->latent_channels, i->latent_height, i->latent_width), mean);
    struct tensor *decoded = kl_decode(t, m->kl, z);
    tensor_release(z);
    tensor_to_f32(decoded, x);
    tensor_release(decoded);
    struct image image = {0};
    int status = image_new(&image, i->image_width, i->image_height, 3, 8, e);
    if (status == 0 && !image_from_signed(&image, x))
        warn("the image of record %" PRId64 " is not finite", index);
    if (status == 0)
        status = write_image(out, &image, r, index, e);
    image_release(&image);
    free(mean);
    free(x);
    return status;
}

struct source {
    struct shard_store *store;
    int64_t first;
};

static int read_and_decode(FILE *out, const struct source *sources, int count, int64_t index,
                           const struct model *m, struct tape *t, struct error *e)
{
    const struct source *s = &sources[count - 1];
    int64_t total = s->first + shard_store_count(s->store);
    if (index < 0 || index >= total)
        return error_set(e, "there is no record %" PRId64 ": the store has %" PRId64 " record%s",
                         index, total, plural(total));
    while (s->first > index)
        s--;
    struct shard_record r;
    shard_record_init(&r);
    int status = shard_store_read(s->store, index - s->first, &r, e) != 0 ? -1 : 0;
    if (status != 0)
        error_prefix(e, "cannot read record %" PRId64, index);
    else
        status = decode(out, shard_store_info(s->store), &r, index, m, t, e);
    shard_record_release(&r);
    return status;
}

int stores_decode(FILE *out, const struct shard_folders *stores, const int64_t *indices, int64_t n,
                  const struct model *m, struct tape *t, struct error *e)
{
    struct source *sources = xcalloc((size_t)stores->count, sizeof *sources);
    int64_t first = 0;
    int status = 0, opened = 0;
    for (int i = 0; i < stores->count && status == 0; i++) {
        status = shard_store_open(&sources[i].store, stores->items[i], e);
        if (status != 0) {
            error_prefix(e, "cannot read store '%s'", stores->items[i]);
            break;
        }
        opened++;
        sources[i].first = first;
        first += shard_store_count(sources[i].store);
        const struct shard_info *info = shard_store_info(sources[i].store);
        status = check_model(m, info, e);
        if (status == 0)
            status = check_shapes(m, info, e);
    }
    for (int64_t i = 0; i < n && status == 0; i++)
        status = read_and_decode(out, sources, stores->count, indices[i], m, t, e);
    for (int i = 0; i < opened; i++)
        shard_store_close(sources[i].store);
    free(sources);
    return status;
}
