#include "common/nets/unet.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/nets/unet_internal.h"

#define NORM_EPS 1e-5f

static void free_modules(struct module_list *list)
{
    for (int i = 0; i < list->count; i++)
        if (list->items[i].kind == MODULE_SKIP)
            free_modules(&list->items[i].inner);
    free(list->items);
}

void unet_free(struct unet *u)
{
    if (!u)
        return;
    free_modules(&u->net);
    loader_release(&u->loader);
    free(u);
}

struct loader *unet_loader(struct unet *u)
{
    return &u->loader;
}

const struct unet_sizes *unet_sizes(const struct unet *u)
{
    return &u->sizes;
}

void unet_set_recompute(struct unet *u, bool recompute)
{
    u->recompute = recompute;
}

/* cond: the vector that modulates, or all modulations computed from it if they are stacked. */
static struct tensor *run_conv_block(struct tape *t, const void *context, struct tensor *x,
                                     struct tensor *cond)
{
    const struct module *m = context;
    struct tensor *h = tensor_retain(x);
    bool added = false; /* x, to h */
    for (int i = 0; i < 2; i++) {
        tensor_replace(&h, conv2d(t, h, m->conv.weight[i], m->conv.bias[i], 1, 1, 1));
        if (!m->conv.modulation[i])
            break;
        int64_t begin = m->conv.modulation_row[i];
        struct tensor *modulation =
            begin >= 0 ? tensor_retain(cond)
                       : linear(t, cond, m->conv.modulation[i], NULL, ACTIVATION_NONE);
        begin = begin >= 0 ? begin : 0;
        added = i == 1 && !m->conv.skip;
        if (added)
            tensor_replace(&h, group_norm_add(t, x, h, 1, NORM_EPS, NULL, NULL, modulation, begin,
                                              ACTIVATION_RELU));
        else
            tensor_replace(
                &h, group_norm(t, h, 1, NORM_EPS, NULL, NULL, modulation, begin, ACTIVATION_RELU));
        tensor_release(modulation);
    }
    if (m->conv.skip)
        tensor_replace(&h, linear_add(t, h, x, m->conv.skip, NULL));
    else if (!added)
        tensor_replace(&h, add(t, h, x));
    return h;
}

static struct tensor *run_attention(struct tape *t, const void *context, struct tensor *x,
                                    struct tensor *cond)
{
    const struct module *m = context;
    struct tensor *h = group_norm(t, x, 1, NORM_EPS, m->attention.gamma, m->attention.beta, NULL, 0,
                                  ACTIVATION_NONE);
    tensor_replace(&h, linear(t, h, m->attention.qkv, m->attention.qkv_bias, ACTIVATION_NONE));
    tensor_replace(&h, attention_qkv(t, h, m->attention.heads));
    tensor_replace(&h, linear_add(t, x, h, m->attention.out, m->attention.out_bias));
    return h;
}

static struct tensor *run_block(struct tape *t, const struct unet *u, tape_function *f,
                                const struct module *m, struct tensor *x, struct tensor *cond)
{
    return u->recompute ? tape_recompute(t, f, m, x, cond) : f(t, m, x, cond);
}

static bool ends_enlarging(const struct module_list *list)
{
    return list->count > 0 && list->items[list->count - 1].kind == MODULE_UP;
}

/* Takes over the reference to x. */
static struct tensor *run_modules(struct tape *t, const struct unet *u,
                                  const struct module_list *list, struct tensor *x,
                                  struct tensor *cond)
{
    for (int i = 0; i < list->count; i++) {
        const struct module *m = &list->items[i];
        switch (m->kind) {
        case MODULE_CONV_BLOCK:
            tensor_replace(&x, run_block(t, u, run_conv_block, m, x, cond));
            break;
        case MODULE_ATTENTION:
            tensor_replace(&x, run_block(t, u, run_attention, m, x, NULL));
            break;
        case MODULE_SKIP: {
            struct module_list below = m->inner;
            bool enlarged = ends_enlarging(&below);
            below.count -= enlarged;
            struct tensor *inner = run_modules(t, u, &below, tensor_retain(x), cond);
            tensor_replace(&x, enlarged ? upsample_bilinear2x(t, inner, x) : concat(t, inner, x));
            tensor_release(inner);
            break;
        }
        case MODULE_DOWN:
            tensor_replace(&x, avg_pool2x2(t, x));
            break;
        case MODULE_UP:
            tensor_replace(&x, upsample_bilinear2x(t, x, NULL));
            break;
        }
    }
    return x;
}

static struct tensor *run_mapping(struct tape *t, const struct unet *u, struct tensor *time,
                                  struct tensor *embed)
{
    struct tensor *features = fourier_features(t, time, u->mapping_timestep);
    struct tensor *x = l2_normalize(t, embed, 1e-12f, sqrtf((float)u->sizes.embed_width));
    tensor_replace(&x, cast_to_compute(t, x));
    tensor_replace(&x, concat(t, x, features));
    tensor_release(features);
    for (int i = 0; i < u->mapping_count; i++) {
        const struct mapping_block *b = &u->mapping[i];
        enum activation_kind last = i == u->mapping_count - 1 ? ACTIVATION_NONE : ACTIVATION_RELU;
        struct tensor *h = linear(t, x, b->weight[0], b->bias[0], ACTIVATION_RELU);
        tensor_replace(&h, linear(t, h, b->weight[1], b->bias[1], last));
        if (b->skip)
            tensor_replace(&x, linear(t, x, b->skip, NULL, ACTIVATION_NONE));
        tensor_replace(&x, add(t, h, x));
        tensor_release(h);
    }
    return x;
}

struct tensor *unet_forward(struct tape *t, const struct unet *u, struct tensor *x,
                            struct tensor *time, struct tensor *embed)
{
    CHECK(x->ndim == 4 && x->shape[1] == u->sizes.latent_channels);
    CHECK(x->shape[2] % u->sizes.side_multiple == 0 && x->shape[3] % u->sizes.side_multiple == 0);
    CHECK(embed->ndim == 2 && embed->shape[1] == u->sizes.embed_width);
    struct tensor *cond = run_mapping(t, u, time, embed);
    if (u->modulations)
        tensor_replace(&cond, linear(t, cond, u->modulations, NULL, ACTIVATION_NONE));
    struct tensor *features = fourier_features(t, time, u->timestep);
    struct tensor *h = to_nhwc(t, x, NULL, NULL);
    tensor_replace(&h, append_planes(t, h, features));
    tensor_release(features);
    h = run_modules(t, u, &u->net, h, cond);
    tensor_release(cond);
    tensor_replace(&h, to_nchw(t, h));
    return h;
}
