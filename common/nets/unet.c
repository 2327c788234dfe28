#include "common/nets/unet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"

#define HEAD_WIDTH 64
#define NORM_EPS   1e-5f

/* The reference's network is a list of modules, some of which hold a list of their own. */
enum module_kind {
    MODULE_CONV_BLOCK, /* residual: conv, norm, modulation, ReLU, twice */
    MODULE_ATTENTION,  /* residual */
    MODULE_SKIP,       /* concat(inner list(x), x) */
    MODULE_DOWN,
    MODULE_UP,
};

struct module_list {
    struct module *items;
    int count;
};

struct module {
    enum module_kind kind;
    union {
        struct {
            struct tensor *weight[2], *bias[2], *modulation[2]; /* modulation[1] NULL: the last */
            int64_t modulation_row[2]; /* where it begins in the stack; -1: not stacked */
            struct tensor *skip;       /* NULL: identity */
        } conv;
        struct {
            struct tensor *gamma, *beta, *qkv, *qkv_bias, *out, *out_bias;
            int heads;
        } attention;
        struct module_list inner;
    };
};

struct mapping_block {
    struct tensor *weight[2], *bias[2], *skip;
};

#define MAPPING_MAX 8

struct unet {
    struct loader loader;
    struct unet_sizes sizes;
    struct tensor *mapping_timestep, *timestep; /* Fourier weights [m, 1] */
    struct mapping_block mapping[MAPPING_MAX];
    int mapping_count;
    int64_t cond_width;
    struct tensor *modulations; /* all of them, stacked; NULL: each by itself */
    struct module_list net;
    bool recompute;
};

static void load_conv_block(struct unet *u, struct module *m, int64_t *channels, const char *prefix)
{
    struct loader *l = &u->loader;
    m->kind = MODULE_CONV_BLOCK;
    int64_t width = *channels;
    for (int i = 0; i < 2; i++) {
        int at = 4 * i;
        struct tensor *w = loader_get(l, DIMS(-1, width, 3, 3), "%s.main.%d.weight", prefix, at);
        if (!w)
            return;
        width = w->shape[0];
        m->conv.weight[i] = w;
        m->conv.bias[i] = loader_get_f32(l, DIMS(width), "%s.main.%d.bias", prefix, at);
        if (i == 0 || loader_has(l, "%s.main.%d.layer.weight", prefix, at + 2))
            m->conv.modulation[i] = loader_get(l, DIMS(2 * width, u->cond_width),
                                               "%s.main.%d.layer.weight", prefix, at + 2);
    }
    if (width != *channels)
        m->conv.skip = loader_get(l, DIMS(width, *channels, 1, 1), "%s.skip.weight", prefix);
    *channels = width;
}

static void load_attention(struct unet *u, struct module *m, int64_t c, const char *prefix)
{
    struct loader *l = &u->loader;
    m->kind = MODULE_ATTENTION;
    m->attention.gamma = loader_get_f32(l, DIMS(c), "%s.norm.weight", prefix);
    m->attention.beta = loader_get_f32(l, DIMS(c), "%s.norm.bias", prefix);
    m->attention.qkv = loader_get(l, DIMS(3 * c, c, 1, 1), "%s.qkv_proj.weight", prefix);
    m->attention.qkv_bias = loader_get_f32(l, DIMS(3 * c), "%s.qkv_proj.bias", prefix);
    m->attention.out = loader_get(l, DIMS(c, c, 1, 1), "%s.out_proj.weight", prefix);
    m->attention.out_bias = loader_get_f32(l, DIMS(c), "%s.out_proj.bias", prefix);
    m->attention.heads = (int)(c / HEAD_WIDTH);
    if (!l->failed && c % HEAD_WIDTH) {
        error_set(l->error, "'%s.qkv_proj.weight': %lld channels are no multiple of %d", prefix,
                  (long long)c, HEAD_WIDTH);
        l->failed = true;
    }
}

static struct module *append(struct module_list *list)
{
    list->items = xrealloc(list->items, (size_t)(list->count + 1) * sizeof *list->items);
    list->items[list->count] = (struct module){0};
    return &list->items[list->count++];
}

/* Names tell the kinds; pooling and upsampling have no parameters, so they are the gaps: before the
 * first and after the last module of an inner list. */
static void load_modules(struct unet *u, struct module_list *list, int64_t *channels,
                         const char *prefix, int depth)
{
    struct loader *l = &u->loader;
    if (depth > 0)
        append(list)->kind = MODULE_DOWN;
    if ((1 << depth) > u->sizes.side_multiple)
        u->sizes.side_multiple = 1 << depth;
    for (int i = depth > 0; !l->failed; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s.%d", prefix, i);
        if (loader_has(l, "%s.qkv_proj.weight", name)) {
            load_attention(u, append(list), *channels, name);
        } else if (loader_has(l, "%s.main.0.weight", name)) {
            load_conv_block(u, append(list), channels, name);
        } else if (loader_has(l, "%s.main.1.main.0.weight", name) && depth < 16) {
            struct module_list inner = {0};
            int64_t inside = *channels;
            char below[210];
            snprintf(below, sizeof below, "%s.main", name);
            load_modules(u, &inner, &inside, below, depth + 1);
            struct module *m = append(list);
            m->kind = MODULE_SKIP;
            m->inner = inner;
            *channels += inside;
        } else {
            break;
        }
    }
    if (depth > 0)
        append(list)->kind = MODULE_UP;
}

static void load_mapping(struct unet *u)
{
    struct loader *l = &u->loader;
    u->mapping_timestep = loader_get_f32(l, DIMS(-1, 1), "mapping_timestep_embed.weight");
    struct tensor *first = loader_get(l, DIMS(-1, -1), "mapping.0.main.0.weight");
    if (!first || !u->mapping_timestep)
        return;
    int64_t width = first->shape[1];
    u->sizes.embed_width = width - 2 * u->mapping_timestep->shape[0];
    if (u->sizes.embed_width <= 0) {
        error_set(l->error, "'mapping.0.main.0.weight' leaves no room for an embed");
        l->failed = true;
        return;
    }
    for (int i = 0; i < MAPPING_MAX && loader_has(l, "mapping.%d.main.0.weight", i); i++) {
        struct mapping_block *b = &u->mapping[u->mapping_count++];
        int64_t from = width;
        for (int j = 0; j < 2; j++) {
            b->weight[j] = loader_get(l, DIMS(-1, width), "mapping.%d.main.%d.weight", i, 2 * j);
            if (!b->weight[j])
                return;
            width = b->weight[j]->shape[0];
            b->bias[j] = loader_get_f32(l, DIMS(width), "mapping.%d.main.%d.bias", i, 2 * j);
        }
        if (width != from)
            b->skip = loader_get(l, DIMS(width, from), "mapping.%d.skip.weight", i);
    }
    u->cond_width = width;
}

static void free_modules(struct module_list *list)
{
    for (int i = 0; i < list->count; i++)
        if (list->items[i].kind == MODULE_SKIP)
            free_modules(&list->items[i].inner);
    free(list->items);
}

struct modulations {
    struct tensor **matrices;
    int64_t **rows; /* where the module wants to know */
    int count;
};

static void find_modulations(struct modulations *m, struct module_list *list)
{
    for (int i = 0; i < list->count; i++) {
        struct module *module = &list->items[i];
        if (module->kind == MODULE_SKIP)
            find_modulations(m, &module->inner);
        for (int j = 0; module->kind == MODULE_CONV_BLOCK && j < 2; j++) {
            module->conv.modulation_row[j] = -1;
            if (!module->conv.modulation[j])
                continue;
            size_t count = (size_t)m->count + 1;
            m->matrices = xrealloc(m->matrices, count * sizeof *m->matrices);
            m->rows = xrealloc(m->rows, count * sizeof *m->rows);
            m->matrices[m->count] = module->conv.modulation[j];
            m->rows[m->count++] = &module->conv.modulation_row[j];
        }
    }
}

/* All modulations are functions of the same vector: one product where memory allows. */
static void stack_modulations(struct unet *u)
{
    struct modulations m = {0};
    find_modulations(&m, &u->net);
    int64_t *rows = xcalloc((size_t)m.count + 1, sizeof *rows);
    if (m.count > 0)
        u->modulations = loader_stack(&u->loader, m.matrices, m.count, rows);
    for (int i = 0; i < m.count && u->modulations; i++)
        *m.rows[i] = rows[i];
    free(rows);
    free(m.rows);
    free(m.matrices);
}

int unet_load(struct unet **out, const struct named_weights *names, struct device *d,
              struct error *e)
{
    struct unet *u = xcalloc(1, sizeof *u);
    struct loader *l = &u->loader;
    loader_init(l, names, d, e);
    load_mapping(u);
    u->timestep = loader_get_f32(l, DIMS(-1, 1), "timestep_embed.weight");
    struct tensor *first = loader_get(l, DIMS(-1, -1, 3, 3), "net.0.main.0.weight");
    if (!l->failed) {
        int64_t channels = first->shape[1];
        u->sizes.latent_channels = channels - 2 * u->timestep->shape[0];
        load_modules(u, &u->net, &channels, "net", 0);
        if (!l->failed && (channels != u->sizes.latent_channels || channels <= 0)) {
            error_set(e, "the network's last layer gives %lld channels, not the latent's %lld",
                      (long long)channels, (long long)u->sizes.latent_channels);
            l->failed = true;
        }
    }
    if (l->failed) {
        unet_free(u);
        return -1;
    }
    stack_modulations(u);
    for (int i = 0; i < names->count; i++)
        u->sizes.parameters += weight_count(&names->items[i]);
    double scale;
    if (names_scalar(names, "autoencoder_scale", &scale)) {
        u->sizes.autoencoder_scale = scale;
        u->sizes.parameters -= names_find(names, "autoencoder_scale") != NULL;
    }
    *out = u;
    return 0;
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

/* cond: what the modulations are functions of, or all of them when they are stacked. */
static struct tensor *run_conv_block(struct tape *t, const void *context, struct tensor *x,
                                     struct tensor *cond)
{
    const struct module *m = context;
    struct tensor *h = tensor_retain(x);
    for (int i = 0; i < 2; i++) {
        tensor_replace(&h, conv2d(t, h, m->conv.weight[i], m->conv.bias[i], 1, 1, 1));
        if (!m->conv.modulation[i])
            break;
        int64_t begin = m->conv.modulation_row[i];
        struct tensor *modulation =
            begin >= 0 ? tensor_retain(cond)
                       : linear(t, cond, m->conv.modulation[i], NULL, ACTIVATION_NONE);
        tensor_replace(&h, group_norm(t, h, 1, NORM_EPS, NULL, NULL, modulation,
                                      begin >= 0 ? begin : 0, ACTIVATION_RELU));
        tensor_release(modulation);
    }
    if (m->conv.skip) {
        struct tensor *skip = linear(t, x, m->conv.skip, NULL, ACTIVATION_NONE);
        tensor_replace(&h, add(t, h, skip));
        tensor_release(skip);
    } else {
        tensor_replace(&h, add(t, h, x));
    }
    return h;
}

static struct tensor *run_attention(struct tape *t, const void *context, struct tensor *x,
                                    struct tensor *cond)
{
    (void)cond;
    const struct module *m = context;
    struct tensor *h = group_norm(t, x, 1, NORM_EPS, m->attention.gamma, m->attention.beta, NULL, 0,
                                  ACTIVATION_NONE);
    tensor_replace(&h, linear(t, h, m->attention.qkv, m->attention.qkv_bias, ACTIVATION_NONE));
    tensor_replace(&h, attention_qkv(t, h, m->attention.heads));
    tensor_replace(&h, linear(t, h, m->attention.out, m->attention.out_bias, ACTIVATION_NONE));
    tensor_replace(&h, add(t, h, x));
    return h;
}

static struct tensor *run_block(struct tape *t, const struct unet *u, tape_function *f,
                                const struct module *m, struct tensor *x, struct tensor *cond)
{
    return u->recompute ? tape_recompute(t, f, m, x, cond) : f(t, m, x, cond);
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
            struct tensor *inner = run_modules(t, u, &m->inner, tensor_retain(x), cond);
            tensor_replace(&x, concat(t, inner, x));
            tensor_release(inner);
            break;
        }
        case MODULE_DOWN:
            tensor_replace(&x, avg_pool2x2(t, x));
            break;
        case MODULE_UP:
            tensor_replace(&x, upsample_bilinear2x(t, x));
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
