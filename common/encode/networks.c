#include "common/encode/networks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

static void describe_part(struct shard_model *out, const struct model_part *part)
{
    const char *slash = strrchr(part->path, '/');
    snprintf(out->name, sizeof out->name, "%s", slash ? slash + 1 : part->path);
    char hex[33];
    names_hash(hex, &part->names);
    snprintf(out->hash, sizeof out->hash, "%s", hex);
}

int encode_models_describe(struct shard_info *info, struct encode_models *models, struct error *e)
{
    const struct kl_sizes *kl = kl_sizes(models->model->kl);
    const struct cloob_sizes *cloob = cloob_sizes(models->model->cloob);
    if (!kl->has_encoder)
        return error_set(e, "'%s' has no encoder", models->model->autoencoder_part.path);
    if (kl->image_channels != 3) {
        return error_set(e, "'%s' is for pictures of %lld channels, not 3",
                         models->model->autoencoder_part.path, (long long)kl->image_channels);
    }
    if (!cloob->has_image)
        return error_set(e, "'%s' has no image tower", models->model->cloob_part.path);
    if (models->height < 1 || models->width < 1 || models->height % kl->factor ||
        models->width % kl->factor) {
        return error_set(e, "size %dx%d: the autoencoder wants multiples of %d", models->height,
                         models->width, kl->factor);
    }
    models->side = (int)cloob->image_size;
    *info = (struct shard_info){
        .latent_channels = (int)kl->z_channels,
        .latent_height = models->height / kl->factor,
        .latent_width = models->width / kl->factor,
        .embed_size = (int)cloob->embed_width,
        .embed_dtype = models->embed_dtype,
        .image_height = models->height,
        .image_width = models->width,
    };
    strcpy(info->preprocessing, models->color == PREP_PIL ? "pil" : "display");
    describe_part(&info->autoencoder, &models->model->autoencoder_part);
    describe_part(&info->cloob, &models->model->cloob_part);
    return 0;
}

/* What CLOOB sees: the autoencoder's picture, its middle square where it is not one. */
static void make_square(float *square, int side, const float *picture, int height, int width)
{
    int crop = height < width ? height : width;
    if (height == width) {
        prep_bicubic(square, side, side, picture, 3, height, width);
        return;
    }
    float *middle = xmalloc(3 * (size_t)crop * (size_t)crop * sizeof *middle), *row = middle;
    int top = (height - crop) / 2, left = (width - crop) / 2;
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < crop; y++, row += crop) {
            memcpy(row, picture + ((size_t)c * height + top + y) * width + left,
                   (size_t)crop * sizeof *row);
        }
    }
    prep_bicubic(square, side, side, middle, 3, crop, crop);
    free(middle);
}

static int prepare(void *context, const char *path, float *picture, float *square, int *width,
                   int *height, char note[128], struct error *e)
{
    const struct encode_models *m = context;
    struct image image, resized;
    if (image_read(&image, path, m->max_pixels, e))
        return -1;
    snprintf(note, 128, "%s", image.warning);
    int rc = prep_color(&image, m->color, e);
    if (rc == 0) {
        *width = image.width;
        *height = image.height;
        rc = m->height == m->width ? prep_square(&resized, &image, m->width, e)
                                   : prep_cover(&resized, &image, m->width, m->height, e);
    }
    image_release(&image);
    if (rc)
        return rc;
    prep_to_float(picture, &resized);
    image_release(&resized);
    make_square(square, m->side, picture, m->height, m->width);
    prep_to_signed(picture, 3 * (size_t)m->height * (size_t)m->width);
    return 0;
}

static void release_work(struct encode_work *w)
{
    replay_free(w->replay);
    tensor_release(w->pictures);
    tensor_release(w->squares);
    tensor_release(w->moments);
    tensor_release(w->embeds);
    *w = (struct encode_work){0};
}

void encode_models_release(struct encode_models *m)
{
    for (int i = 0; i < 2; i++)
        release_work(&m->work[i]);
    m->loaded = m->running = NULL;
}

/* y = x, then x is released. */
static void move_to(struct tensor *y, struct tensor *x)
{
    tensor_copy(y, x);
    tensor_release(x);
}

/* A replay_function. */
static void run_networks(struct tape *t, void *context)
{
    const struct encode_work *w = context;
    move_to(w->moments, kl_encode(t, w->models->model->kl, w->pictures));
    move_to(w->embeds, cloob_image(t, w->models->model->cloob, w->squares));
}

static void prepare_work(struct encode_work *w, struct encode_models *m, int64_t n)
{
    struct device *d = m->tape.device;
    const struct kl_sizes *kl = kl_sizes(m->model->kl);
    const struct cloob_sizes *cloob = cloob_sizes(m->model->cloob);
    release_work(w);
    w->models = m;
    w->n = n;
    w->pictures = tensor_new(d, DTYPE_F32, DIMS(n, 3, m->height, m->width));
    w->squares = tensor_new(d, DTYPE_F32, DIMS(n, 3, m->side, m->side));
    w->moments = tensor_new(
        d, DTYPE_F32, DIMS(n, 2 * kl->z_channels, m->height / kl->factor, m->width / kl->factor));
    w->embeds = tensor_new(d, DTYPE_F32, DIMS(n, cloob->embed_width));
    w->replay = replay_new(&m->tape, run_networks, w);
}

/* Batches of one size use the same tensors, in the order of the calls; those of another size leave
 * them alone, as the results of the run before are yet to be fetched. */
static int load(void *context, int n, const float *pictures, const float *squares, struct error *e)
{
    (void)e;
    struct encode_models *m = context;
    struct encode_work *w = m->running ? m->running : &m->work[0];
    if (w->n != n && m->running)
        w = &m->work[w == &m->work[0]];
    if (w->n != n)
        prepare_work(w, m, n);
    tensor_upload(w->pictures, pictures);
    tensor_upload(w->squares, squares);
    m->loaded = w;
    return 0;
}

static int run(void *context, struct error *e)
{
    (void)e;
    struct encode_models *m = context;
    m->running = m->loaded;
    replay_run(m->running->replay);
    return 0;
}

static int fetch(void *context, float *moments, float *embeds, struct error *e)
{
    (void)e;
    struct encode_models *m = context;
    tensor_to_f32(m->running->moments, moments);
    tensor_to_f32(m->running->embeds, embeds);
    return 0;
}

void encode_models_encoder(struct encoder *encoder, struct encode_models *models,
                           const struct shard_info *info)
{
    size_t side = (size_t)models->side;
    *encoder = (struct encoder){
        .context = models,
        .picture_count = 3 * (size_t)models->height * (size_t)models->width,
        .square_count = 3 * side * side,
        .moments_count = 2 * shard_latent_count(info),
        .embed_count = (size_t)info->embed_size,
        .prepare = prepare,
        .load = load,
        .run = run,
        .fetch = fetch,
    };
}
