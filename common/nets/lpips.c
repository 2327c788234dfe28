#include "common/nets/lpips.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/nets/description.h"

#define LAYERS     5
#define BLOCKS_MAX 3
#define EPS        1e-10f /* added to lengths */

/* Indices of each VGG16 stage's convolutions in torchvision's `features`. */
static const int places[LAYERS][BLOCKS_MAX] = {
    {0, 2, -1}, {5, 7, -1}, {10, 12, 14}, {17, 19, 21}, {24, 26, 28}};

/* Mean and standard deviation, in [-1, 1], of the images that VGG16 was trained on. */
static const float means[3] = {-0.030f, -0.088f, -0.188f};
static const float deviations[3] = {0.458f, 0.448f, 0.450f};

struct lpips {
    struct loader loader;
    struct stage {
        struct tensor *weight[BLOCKS_MAX], *bias[BLOCKS_MAX];
        struct tensor *importance; /* of a channel, [1, c, 1, 1] */
    } stages[LAYERS];
};

static void load_stage(struct loader *l, struct stage *s, int layer, int64_t *channels)
{
    for (int i = 0; i < BLOCKS_MAX && places[layer][i] >= 0 && !l->failed; i++) {
        s->weight[i] =
            loader_get(l, DIMS(-1, *channels, 3, 3), "features.%d.weight", places[layer][i]);
        if (l->failed)
            return;
        *channels = s->weight[i]->shape[0];
        s->bias[i] = loader_get_f32(l, DIMS(*channels), "features.%d.bias", places[layer][i]);
    }
    s->importance = loader_get_f32(l, DIMS(1, *channels, 1, 1), "lin%d.model.1.weight", layer);
}

int lpips_load(struct lpips **out, const struct named_weights *names, struct device *d,
               struct error *e)
{
    struct lpips *l = xcalloc(1, sizeof *l);
    int64_t channels = 3;
    loader_init(&l->loader, names, d, e);
    for (int i = 0; i < LAYERS && !l->loader.failed; i++)
        load_stage(&l->loader, &l->stages[i], i, &channels);
    if (l->loader.failed) {
        lpips_free(l);
        return -1;
    }
    *out = l;
    return 0;
}

int lpips_describe(struct description *d, const struct named_weights *names, struct error *e)
{
    const struct weight *first = description_find(names, 4, "features.0.weight");
    if (!first || !names_find(names, "lin0.model.1.weight"))
        return error_set(e, "tensor '%s' is missing or unusable",
                         first ? "lin0.model.1.weight" : "features.0.weight");
    description_add(d, "LPIPS, VGG16 of %" PRId64 " channels", first->shape[0]);
    return 0;
}

void lpips_free(struct lpips *l)
{
    if (!l)
        return;
    loader_release(&l->loader);
    free(l);
}

static struct tensor *normalize(struct tape *t, struct tensor *images)
{
    float scale[3], shift[3];
    for (int i = 0; i < 3; i++) {
        scale[i] = 1 / deviations[i];
        shift[i] = -means[i] / deviations[i];
    }
    return to_nhwc(t, images, scale, shift);
}

/* Takes over the reference to x. */
static struct tensor *run_stage(struct tape *t, const struct stage *s, bool pools, struct tensor *x)
{
    if (pools)
        tensor_replace(&x, max_pool2x2(t, x));
    for (int i = 0; i < BLOCKS_MAX && s->weight[i]; i++) {
        tensor_replace(&x, conv2d(t, x, s->weight[i], s->bias[i], 1, 1, 1));
        tensor_replace(&x, activation(t, x, ACTIVATION_RELU));
    }
    return x;
}

struct tensor *lpips_distance(struct tape *t, const struct lpips *l, struct tensor *images,
                              struct tensor *reconstructions)
{
    CHECK(tensor_same_shape(images, reconstructions) && images->ndim == 4);
    CHECK(images->shape[1] == 3 && !images->gradient);
    CHECK(images->shape[2] >= LPIPS_LEAST_SIDE && images->shape[3] >= LPIPS_LEAST_SIDE);
    struct tensor *x = normalize(t, images), *y = normalize(t, reconstructions);
    struct tensor *distances[LAYERS];
    for (int i = 0; i < LAYERS; i++) {
        x = run_stage(t, &l->stages[i], i > 0, x);
        y = run_stage(t, &l->stages[i], i > 0, y);
        distances[i] = feature_distance(t, x, y, l->stages[i].importance, EPS);
    }
    static const float ones[LAYERS] = {1, 1, 1, 1, 1};
    struct tensor *sum = linear_combination(t, LAYERS, distances, ones);
    for (int i = 0; i < LAYERS; i++)
        tensor_release(distances[i]);
    tensor_release(x);
    tensor_release(y);
    return sum;
}
