#include "common/nets/patch_discriminator.h"

#include <stdlib.h>

#include "common/base/message.h"

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

/* Block i's convolution is main.(3i - 1) but for the first, the norm follows it. */
static void load_block(struct patch_discriminator *p, int i, int64_t *channels)
{
    struct loader *l = &p->loader;
    struct block *b = &p->blocks[i];
    bool first = i == 0, last = i == p->count - 1;
    int place = first ? 0 : 3 * i - 1;
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

static void find_sizes(struct patch_discriminator *p, const struct named_weights *names)
{
    struct loader *l = &p->loader;
    struct tensor *first = loader_get(l, DIMS(-1, -1, 4, 4), "main.0.weight");
    if (!first)
        return;
    int norms = 0;
    while (norms < LAYERS_MAX && loader_has(l, "main.%d.weight", 3 * (norms + 1)))
        norms++;
    if (norms == 0) {
        error_set(l->error, "tensor 'main.3.weight' is missing");
        l->failed = true;
        return;
    }
    p->count = norms + 2;
    p->sizes = (struct patch_discriminator_sizes){.image_channels = first->shape[1],
                                                  .channels = first->shape[0],
                                                  .layers = norms,
                                                  .least_side = (int64_t)3 << norms};
    for (int i = 0; i < names->count; i++)
        p->sizes.parameters += weight_count(&names->items[i]);
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
                                          struct tensor *pictures)
{
    CHECK(pictures->ndim == 4 && pictures->shape[1] == p->sizes.image_channels);
    CHECK(pictures->shape[2] >= p->sizes.least_side && pictures->shape[3] >= p->sizes.least_side);
    struct tensor *x = to_nhwc(t, pictures, NULL, NULL);
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
