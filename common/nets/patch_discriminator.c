#include "common/nets/patch_discriminator.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/nets/description.h"

#define LAYERS_MAX 8
#define EPS        1e-5f

struct patch_discriminator {
    struct loader loader;
    struct patch_discriminator_sizes sizes;
    struct block {
        struct tensor *weight, *bias; /* bias NULL: none */
        struct tensor *gamma, *beta;  /* NULL: no norm */
        int stride;
    } blocks[LAYERS_MAX + 2];
    int count;
};

/* Where block i's convolution is in `main`; its norm, of all but the first and the last block,
 * follows it. */
static int place_of(int i)
{
    return i == 0 ? 0 : 3 * i - 1;
}

void patch_discriminator_architecture(struct architecture *a, int64_t image_channels,
                                      int64_t channels, int layers)
{
    int64_t c = channels;
    CHECK(layers >= 1);
    architecture_add_conv(a, image_channels, c, 4, "main.0");
    for (int i = 1; i <= layers; i++) {
        int64_t out = channels * (i < 3 ? 1 << i : 8);
        architecture_add(a, DIMS(out, c, 4, 4), "main.%d.weight", place_of(i));
        architecture_add_norm(a, out, "main.%d", place_of(i) + 1);
        c = out;
    }
    architecture_add_conv(a, c, 1, 4, "main.%d", place_of(layers + 1));
}

static void load_block(struct patch_discriminator *p, int i, int64_t *channels)
{
    struct loader *l = &p->loader;
    struct block *b = &p->blocks[i];
    bool first = i == 0, last = i == p->count - 1;
    int place = place_of(i);
    b->stride = i < p->sizes.layers ? 2 : 1;
    b->weight = loader_get(l, DIMS(last ? 1 : -1, *channels, 4, 4), "main.%d.weight", place);
    if (l->failed)
        return;
    *channels = b->weight->shape[0];
    if (first || last) {
        b->bias = loader_get_f32(l, DIMS(*channels), "main.%d.bias", place);
        return;
    }
    b->gamma = loader_get_f32(l, DIMS(*channels), "main.%d.weight", place + 1);
    b->beta = loader_get_f32(l, DIMS(*channels), "main.%d.bias", place + 1);
}

static int count_norms(const struct named_weights *names)
{
    char name[40];
    for (int norms = 0; norms < LAYERS_MAX; norms++) {
        snprintf(name, sizeof name, "main.%d.weight", place_of(norms + 1) + 1);
        if (!names_find(names, name))
            return norms;
    }
    return LAYERS_MAX;
}

static void find_sizes(struct patch_discriminator *p, const struct named_weights *names)
{
    struct loader *l = &p->loader;
    struct tensor *first = loader_get(l, DIMS(-1, -1, 4, 4), "main.0.weight");
    if (!first)
        return;
    int norms = count_norms(names);
    if (norms == 0) {
        loader_fail(l, "tensor 'main.3.weight' is missing");
        return;
    }
    p->count = norms + 2;
    p->sizes =
        (struct patch_discriminator_sizes){.image_channels = first->shape[1],
                                           .channels = first->shape[0],
                                           .layers = norms,
                                           .least_side = (int64_t)3 << norms,
                                           .parameters = architecture_parameters(names, NULL)};
}

int patch_discriminator_describe(struct description *d, const struct named_weights *names,
                                 struct error *e)
{
    const struct weight *first = description_find(names, 4, "main.0.weight");
    if (!first)
        return error_set(e, "tensor 'main.0.weight' is missing or unusable");
    description_add(d, "PatchGAN discriminator, %" PRId64 " channels, %d layers", first->shape[0],
                    count_norms(names));
    return 0;
}

int patch_discriminator_load(struct patch_discriminator **out, const struct named_weights *names,
                             struct device *d, struct error *e)
{
    struct patch_discriminator *p = xcalloc(1, sizeof *p);
    loader_init(&p->loader, names, d, e);
    find_sizes(p, names);
    int64_t channels = p->sizes.image_channels;
    for (int i = 0; i < p->count && !p->loader.failed; i++)
        load_block(p, i, &channels);
    if (p->loader.failed) {
        patch_discriminator_free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void patch_discriminator_free(struct patch_discriminator *p)
{
    if (!p)
        return;
    loader_release(&p->loader);
    free(p);
}

struct loader *patch_discriminator_loader(struct patch_discriminator *p)
{
    return &p->loader;
}

const struct patch_discriminator_sizes *
patch_discriminator_sizes(const struct patch_discriminator *p)
{
    return &p->sizes;
}

struct tensor *patch_discriminator_logits(struct tape *t, const struct patch_discriminator *p,
                                          struct tensor *images)
{
    CHECK(images->ndim == 4 && images->shape[1] == p->sizes.image_channels);
    CHECK(images->shape[2] >= p->sizes.least_side && images->shape[3] >= p->sizes.least_side);
    struct tensor *x = to_nhwc(t, images, NULL, NULL);
    for (int i = 0; i < p->count; i++) {
        const struct block *b = &p->blocks[i];
        tensor_replace(&x, conv2d(t, x, b->weight, b->bias, b->stride, 1, 1));
        if (b->gamma)
            tensor_replace(&x, batch_norm(t, x, EPS, b->gamma, b->beta, ACTIVATION_LEAKY_RELU));
        else if (i == 0)
            tensor_replace(&x, activation(t, x, ACTIVATION_LEAKY_RELU));
    }
    tensor_replace(&x, to_nchw(t, x));
    return x;
}
