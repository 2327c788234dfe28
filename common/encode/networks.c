#include "common/encode/networks.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory_limit.h"
#include "common/base/message.h"
#include "common/images/thumbnail.h"
#include "formats/text/utf8.h"

#define BUILTIN_FAR 256 /* pixels of the short side, far from the 64 of the built-in model */

static void describe_part(struct shard_model *out, const struct model_part *part)
{
    const char *slash = strrchr(part->path, '/');
    utf8_cut(out->name, sizeof out->name, slash ? slash + 1 : part->path);
    char hex[33];
    names_hash(hex, &part->names);
    snprintf(out->hash, sizeof out->hash, "%s", hex);
    names_encoder_hash(out->encoder, &part->names);
}

/* Fills in the sizes of what the loaded networks read and write. */
static int describe_sizes(struct shard_info *info, struct encode_networks *networks,
                          struct error *e)
{
    const struct kl_sizes *kl = kl_sizes(networks->model->kl);
    const struct cloob_sizes *cloob = cloob_sizes(networks->model->cloob);
    if (!kl->has_encoder)
        return error_set(e, "'%s' has no encoder", networks->model->autoencoder_part.path);
    if (kl->image_channels != 3) {
        return error_set(e, "'%s' is for images of %" PRId64 " channels, not 3",
                         networks->model->autoencoder_part.path, kl->image_channels);
    }
    if (!cloob->has_image)
        return error_set(e, "'%s' has no image tower", networks->model->cloob_part.path);
    if (networks->height < 1 || networks->width < 1 || networks->height % kl->factor ||
        networks->width % kl->factor) {
        return error_set(e, "size %dx%d: the autoencoder needs multiples of %d", networks->height,
                         networks->width, kl->factor);
    }
    networks->side = (int)cloob->image_size;
    *info = (struct shard_info){
        .latent_channels = (int)kl->latent_channels,
        .latent_height = networks->height / kl->factor,
        .latent_width = networks->width / kl->factor,
        .embed_size = (int)cloob->embed_width,
        .embed_dtype = networks->embed_dtype,
        .image_height = networks->height,
        .image_width = networks->width,
    };
    return 0;
}

int encode_networks_describe(struct shard_info *info, struct encode_networks *networks,
                             struct error *e)
{
    if (describe_sizes(info, networks, e) != 0)
        return -1;
    strcpy(info->preprocessing, networks->color == PREPARE_PIL ? "pil" : "display");
    describe_part(&info->autoencoder, &networks->model->autoencoder_part);
    describe_part(&info->cloob, &networks->model->cloob_part);
    return 0;
}

/* Nothing in a photograph is like what the built-in model has learned. */
static void warn_of_photograph(const struct encode_networks *m, const char *path, int width,
                               int height)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    bool large = (width < height ? width : height) >= BUILTIN_FAR;
    if (m->model && m->model->autoencoder_part.builtin && large &&
        !atomic_flag_test_and_set(&warned))
        warn("'%s' has %dx%d pixels, but the built-in model was trained on drawn shapes of 64x64: "
             "for photographs, name another model with -m DIR",
             path, width, height);
}

static int prepare(void *context, const struct encode_file *file, float *image, float *square,
                   int *width, int *height, char note[128], struct error *e)
{
    const struct encode_networks *m = context;
    struct image source, resized;
    struct image_options o = prepare_options(m->color, m->max_pixels, m->allow_truncated);
    int status = image_decode_with(&source, file->data, file->size, &o, e);
    if (status != 0)
        return status;
    snprintf(note, 128, "%s", source.warning);
    prepare_note_first(&source, file->path);
    status = prepare_color(&source, m->color, e);
    if (status == 0) {
        *width = source.width;
        *height = source.height;
        warn_of_photograph(m, file->path, source.width, source.height);
        status = prepare_data(&resized, &source, m->width, m->height, e);
    }
    bool truncated = source.truncated;
    image_release(&source);
    if (status != 0)
        return status;
    prepare_to_float(image, &resized);
    image_release(&resized);
    prepare_middle_square(square, m->side, image, m->height, m->width);
    prepare_to_signed(image, 3 * (size_t)m->height * (size_t)m->width);
    return truncated ? ENCODE_TRUNCATED : 0;
}

static void thumbnail(void *context, uint8_t thumbnail[SHARD_THUMBNAIL_BYTES], const float *image)
{
    const struct encode_networks *m = context;
    thumbnail_make(thumbnail, image, m->height, m->width);
}

static void release_work(struct encode_work *w)
{
    replay_free(w->replay);
    tensor_release(w->images);
    tensor_release(w->squares);
    tensor_release(w->moments);
    tensor_release(w->embeds);
    *w = (struct encode_work){0};
}

void encode_networks_release(struct encode_networks *networks)
{
    for (int i = 0; i < 2; i++)
        release_work(&networks->work[i]);
    networks->loaded = networks->running = NULL;
}

/* Copies x to y and releases x. */
static void move_to(struct tensor *y, struct tensor *x)
{
    tensor_copy(y, x);
    tensor_release(x);
}

/* A replay_function. */
static void run_networks(struct tape *t, void *context)
{
    const struct encode_work *w = context;
    move_to(w->moments, kl_encode(t, w->networks->model->kl, w->images));
    move_to(w->embeds, cloob_image(t, w->networks->model->cloob, w->squares));
}

static void prepare_work(struct encode_work *w, struct encode_networks *m, int64_t n)
{
    struct device *d = m->tape.device;
    const struct kl_sizes *kl = kl_sizes(m->model->kl);
    const struct cloob_sizes *cloob = cloob_sizes(m->model->cloob);
    release_work(w);
    w->networks = m;
    w->n = n;
    w->images = tensor_new(d, DTYPE_F32, DIMS(n, 3, m->height, m->width));
    w->squares = tensor_new(d, DTYPE_F32, DIMS(n, 3, m->side, m->side));
    w->moments =
        tensor_new(d, DTYPE_F32,
                   DIMS(n, 2 * kl->latent_channels, m->height / kl->factor, m->width / kl->factor));
    w->embeds = tensor_new(d, DTYPE_F32, DIMS(n, cloob->embed_width));
    w->replay = replay_new(&m->tape, run_networks, w);
}

/* Batches of the same size share their tensors, as the calls alternate. A batch of another size
 * gets its own: the results of the previous run have not been fetched yet. */
static int load(void *context, int n, const float *images, const float *squares, struct error *e)
{
    struct encode_networks *m = context;
    struct encode_work *w = m->running ? m->running : &m->work[0];
    if (w->n != n && m->running)
        w = &m->work[w == &m->work[0]];
    if (w->n != n)
        prepare_work(w, m, n);
    tensor_upload(w->images, images);
    tensor_upload(w->squares, squares);
    m->loaded = w;
    return 0;
}

static int run(void *context, struct error *e)
{
    struct encode_networks *m = context;
    m->running = m->loaded;
    replay_run(m->running->replay);
    return 0;
}

static int fetch(void *context, float *moments, float *embeds, struct error *e)
{
    struct encode_networks *m = context;
    tensor_to_f32(m->running->moments, moments);
    tensor_to_f32(m->running->embeds, embeds);
    return 0;
}

void encode_networks_encoder(struct encoder *encoder, struct encode_networks *networks,
                             const struct shard_info *info)
{
    size_t side = (size_t)networks->side;
    *encoder = (struct encoder){
        .context = networks,
        .image_floats = 3 * (size_t)networks->height * (size_t)networks->width,
        .square_floats = 3 * side * side,
        .moments_floats = 2 * shard_latent_count(info),
        .embed_floats = (size_t)info->embed_size,
        .prepare = prepare,
        .thumbnail = thumbnail,
        .load = load,
        .run = run,
        .fetch = fetch,
    };
}

/* What decoding an image takes, until it has its final size: that of 4 megapixels. */
#define DECODED_BYTES ((int64_t)16 << 20)

int encode_networks_memory(int64_t *bytes, const struct encode_networks *networks,
                           const struct encode_options *options, const struct device *like,
                           struct error *e)
{
    struct encode_networks dry = *networks;
    struct device *d = device_open_dry(like);
    struct shard_info info;
    struct encoder encoder;
    int status = model_load(dry.model, d, e);
    if (status == 0)
        status = describe_sizes(&info, &dry, e);
    tape_init(&dry.tape, d);
    /* A batch, and a smaller one before its results have been fetched. */
    for (int i = 0; i < 2 && status == 0 && options->batch_size > i; i++) {
        prepare_work(&dry.work[i], &dry, options->batch_size - i);
        run_networks(&dry.tape, &dry.work[i]);
    }
    if (status == 0) {
        encode_networks_encoder(&encoder, &dry, &info);
        *bytes = memory_needed(device_dry_memory(d) + encode_memory(&encoder, options) +
                               options->decode_threads * DECODED_BYTES);
    }
    encode_networks_release(&dry);
    tape_release(&dry.tape);
    model_unload(dry.model, MODEL_ALL);
    device_close(d);
    return status;
}
