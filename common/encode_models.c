#include "common/encode_models.h"

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
    if (!kl->has_encoder) {
        return error_set(e, "'%s' has no encoder", models->model->autoencoder_part.path);
    }
    if (kl->image_channels != 3) {
        return error_set(e, "'%s' is for pictures of %lld channels, not 3",
                         models->model->autoencoder_part.path, (long long)kl->image_channels);
    }
    if (!cloob->has_image) {
        return error_set(e, "'%s' has no image tower", models->model->cloob_part.path);
    }
    if (models->height % kl->factor || models->width % kl->factor) {
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
    if (image_read(&image, path, m->max_pixels, e)) {
        return -1;
    }
    snprintf(note, 128, "%s", image.warning);
    int rc = prep_color(&image, m->color, e);
    if (rc == 0) {
        *width = image.width;
        *height = image.height;
        rc = m->height == m->width ? prep_square(&resized, &image, m->width, e)
                                   : prep_cover(&resized, &image, m->width, m->height, e);
    }
    image_release(&image);
    if (rc) {
        return rc;
    }
    prep_to_float(picture, &resized);
    image_release(&resized);
    make_square(square, m->side, picture, m->height, m->width);
    prep_to_signed(picture, 3 * (size_t)m->height * (size_t)m->width);
    return 0;
}

static int encode(void *context, int n, const float *pictures, const float *squares, float *moments,
                  float *embeds, struct error *e)
{
    struct encode_models *m = context;
    struct device *d = m->tape.device;
    struct tensor *x = tensor_from_f32(d, DIMS(n, 3, m->height, m->width), pictures);
    struct tensor *y = kl_encode(&m->tape, m->model->kl, x);
    tensor_to_f32(y, moments);
    tensor_release(x);
    tensor_release(y);
    x = tensor_from_f32(d, DIMS(n, 3, m->side, m->side), squares);
    y = cloob_image(&m->tape, m->model->cloob, x);
    tensor_to_f32(y, embeds);
    tensor_release(x);
    tensor_release(y);
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
        .encode = encode,
    };
}
