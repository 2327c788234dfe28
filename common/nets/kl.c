#include "common/nets/kl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/nets/description.h"

#define NORM_EPS   1e-6f
#define BLOCKS_MAX 8

static const char norm_groups[] = "norm_groups"; /* a number beside the weights */

const struct kl_config kl_published = {
    .latent_channels = 4,
    .base_channels = 128,
    .multipliers = {1, 2, 4, 4},
    .levels = 4,
    .blocks = 2,
};

enum tensor_kind kl_tensor_kind(const char *name)
{
    return strcmp(name, norm_groups) == 0 ? TENSOR_SCALAR : TENSOR_TRAINED;
}

struct affine {
    struct tensor *weight, *bias;
    int groups; /* of a norm */
};

struct res_block {
    struct affine norm[2], conv[2];
    struct affine shortcut; /* weight NULL: identity */
};

struct attention_block {
    struct affine norm, q, k, v, out; /* norm.weight NULL: no attention here */
};

struct level {
    struct res_block blocks[BLOCKS_MAX];
    struct attention_block attention[BLOCKS_MAX];
    int count;
    struct affine resample; /* weight NULL: the side stays */
};

/* Encoder and decoder have the same parts in another order. */
struct half {
    struct affine conv_in, norm_out, conv_out;
    struct level levels[KL_LEVELS_MAX];
    int level_count;
    struct res_block middle[2];
    struct attention_block middle_attention;
};

struct kl {
    struct loader loader;
    struct kl_sizes sizes;
    struct half encoder, decoder;
    struct affine quant, post_quant;
};

static struct affine load_conv(struct loader *l, int64_t out, int64_t in, int kernel,
                               const char *prefix, const char *name)
{
    struct affine a = {0};
    a.weight = loader_get(l, DIMS(out, in, kernel, kernel), "%s%s.weight", prefix, name);
    if (a.weight)
        a.bias = loader_get_f32(l, DIMS(a.weight->shape[0]), "%s%s.bias", prefix, name);
    return a;
}

/* 0 if the file's number is unusable: load_norm refuses it. */
static int read_norm_groups(const struct named_weights *names)
{
    double groups;
    if (!names_scalar(names, norm_groups, &groups))
        return KL_NORM_GROUPS;
    return groups >= 1 && groups <= 65536 && groups == (int)groups ? (int)groups : 0;
}

static struct affine load_norm(struct loader *l, int64_t c, const char *prefix, const char *name)
{
    struct affine a = {.groups = read_norm_groups(l->names)};
    a.weight = loader_get_f32(l, DIMS(c), "%s%s.weight", prefix, name);
    a.bias = loader_get_f32(l, DIMS(c), "%s%s.bias", prefix, name);
    if (a.groups == 0)
        loader_fail(l, "'%s' is not a number of groups", norm_groups);
    else if (c % a.groups)
        loader_fail(l, "'%s%s.weight': %" PRId64 " channels are not a multiple of %d", prefix, name,
                    c, a.groups);
    return a;
}

static void add_res_block(struct architecture *a, int64_t in, int64_t out, const char *prefix)
{
    architecture_add_norm(a, in, "%s.norm1", prefix);
    architecture_add_conv(a, in, out, 3, "%s.conv1", prefix);
    architecture_add_norm(a, out, "%s.norm2", prefix);
    architecture_add_conv(a, out, out, 3, "%s.conv2", prefix);
    if (in != out)
        architecture_add_conv(a, in, out, 1, "%s.nin_shortcut", prefix);
}

static struct res_block load_res_block(struct loader *l, int64_t *channels, const char *prefix)
{
    struct res_block b = {0};
    int64_t in = *channels;
    b.norm[0] = load_norm(l, in, prefix, ".norm1");
    b.conv[0] = load_conv(l, -1, in, 3, prefix, ".conv1");
    if (l->failed)
        return b;
    int64_t out = b.conv[0].weight->shape[0];
    b.norm[1] = load_norm(l, out, prefix, ".norm2");
    b.conv[1] = load_conv(l, out, out, 3, prefix, ".conv2");
    if (in != out)
        b.shortcut = load_conv(l, out, in, 1, prefix, ".nin_shortcut");
    *channels = out;
    return b;
}

static void add_attention(struct architecture *a, int64_t c, const char *prefix)
{
    architecture_add_norm(a, c, "%s.norm", prefix);
    architecture_add_conv(a, c, c, 1, "%s.q", prefix);
    architecture_add_conv(a, c, c, 1, "%s.k", prefix);
    architecture_add_conv(a, c, c, 1, "%s.v", prefix);
    architecture_add_conv(a, c, c, 1, "%s.proj_out", prefix);
}

static struct attention_block load_attention(struct loader *l, int64_t c, const char *prefix)
{
    struct attention_block a = {0};
    a.norm = load_norm(l, c, prefix, ".norm");
    a.q = load_conv(l, c, c, 1, prefix, ".q");
    a.k = load_conv(l, c, c, 1, prefix, ".k");
    a.v = load_conv(l, c, c, 1, prefix, ".v");
    a.out = load_conv(l, c, c, 1, prefix, ".proj_out");
    return a;
}

/* resample NULL: the side stays. */
static void add_level(struct architecture *a, int64_t *channels, int64_t out, int64_t blocks,
                      const char *prefix, const char *resample)
{
    char name[160];
    for (int i = 0; i < blocks; i++) {
        snprintf(name, sizeof name, "%s.block.%d", prefix, i);
        add_res_block(a, *channels, out, name);
        *channels = out;
    }
    if (resample)
        architecture_add_conv(a, out, out, 3, "%s.%s.conv", prefix, resample);
}

static void load_level(struct loader *l, struct level *level, int64_t *channels, const char *prefix,
                       const char *resample)
{
    char name[160];
    for (int i = 0; i < BLOCKS_MAX && loader_has(l, "%s.block.%d.norm1.weight", prefix, i); i++) {
        snprintf(name, sizeof name, "%s.block.%d", prefix, i);
        level->blocks[i] = load_res_block(l, channels, name);
        snprintf(name, sizeof name, "%s.attn.%d", prefix, i);
        if (loader_has(l, "%s.norm.weight", name))
            level->attention[i] = load_attention(l, *channels, name);
        level->count++;
    }
    if (loader_has(l, "%s.%s.conv.weight", prefix, resample)) {
        snprintf(name, sizeof name, "%s.%s", prefix, resample);
        level->resample = load_conv(l, *channels, *channels, 3, name, ".conv");
    }
}

static void add_middle(struct architecture *a, int64_t c, const char *side)
{
    char name[64];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.mid.block_%d", side, i + 1);
        add_res_block(a, c, c, name);
        snprintf(name, sizeof name, "%s.mid.attn_1", side);
        if (i == 0)
            add_attention(a, c, name);
    }
}

static void load_middle(struct loader *l, struct half *h, int64_t *channels, const char *side)
{
    char name[64];
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.mid.block_%d", side, i + 1);
        h->middle[i] = load_res_block(l, channels, name);
        snprintf(name, sizeof name, "%s.mid.attn_1", side);
        if (i == 0 && loader_has(l, "%s.norm.weight", name))
            h->middle_attention = load_attention(l, *channels, name);
    }
}

/* The encoder's levels are "down", in order; the decoder's "up", from the highest number. */
static void add_half(struct architecture *a, const struct kl_config *c, bool encoder)
{
    const char *side = encoder ? "encoder" : "decoder", *levels = encoder ? "down" : "up";
    int64_t z = c->z_channels ? c->z_channels : c->latent_channels;
    int64_t channels = c->base_channels * (encoder ? 1 : c->multipliers[c->levels - 1]);
    char name[64];
    architecture_add_conv(a, encoder ? 3 : z, channels, 3, "%s.conv_in", side);
    if (!encoder)
        add_middle(a, channels, side);
    for (int i = 0; i < c->levels; i++) {
        int at = encoder ? i : c->levels - 1 - i;
        const char *resample = encoder ? "downsample" : "upsample";
        bool resampled = encoder ? at < c->levels - 1 : at > 0;
        snprintf(name, sizeof name, "%s.%s.%d", side, levels, at);
        add_level(a, &channels, c->base_channels * c->multipliers[at], c->blocks + !encoder, name,
                  resampled ? resample : NULL);
    }
    if (encoder)
        add_middle(a, channels, side);
    architecture_add_norm(a, channels, "%s.norm_out", side);
    architecture_add_conv(a, channels, encoder ? 2 * z : 3, 3, "%s.conv_out", side);
}

static void load_half(struct loader *l, struct half *h, int64_t in, int64_t *out, bool encoder)
{
    const char *side = encoder ? "encoder" : "decoder", *levels = encoder ? "down" : "up";
    char name[64];
    h->conv_in = load_conv(l, -1, in, 3, side, ".conv_in");
    if (l->failed)
        return;
    int64_t channels = h->conv_in.weight->shape[0];
    while (h->level_count < KL_LEVELS_MAX &&
           loader_has(l, "%s.%s.%d.block.0.norm1.weight", side, levels, h->level_count))
        h->level_count++;
    if (!encoder)
        load_middle(l, h, &channels, side);
    for (int i = 0; i < h->level_count && !l->failed; i++) {
        int at = encoder ? i : h->level_count - 1 - i;
        snprintf(name, sizeof name, "%s.%s.%d", side, levels, at);
        load_level(l, &h->levels[at], &channels, name, encoder ? "downsample" : "upsample");
    }
    if (encoder)
        load_middle(l, h, &channels, side);
    h->norm_out = load_norm(l, channels, side, ".norm_out");
    h->conv_out = load_conv(l, -1, channels, 3, side, ".conv_out");
    if (!l->failed)
        *out = h->conv_out.weight->shape[0];
}

void kl_architecture(struct architecture *a, const struct kl_config *c)
{
    int64_t z = c->z_channels ? c->z_channels : c->latent_channels;
    CHECK(c->levels >= 1 && c->levels <= KL_LEVELS_MAX);
    add_half(a, c, true);
    add_half(a, c, false);
    architecture_add_conv(a, 2 * z, 2 * c->latent_channels, 1, "quant_conv");
    architecture_add_conv(a, c->latent_channels, z, 1, "post_quant_conv");
    if (c->norm_groups && c->norm_groups != KL_NORM_GROUPS)
        architecture_add_scalar(a, norm_groups, (double)c->norm_groups);
}

static int half_factor(const struct half *h)
{
    int factor = 1;
    for (int i = 0; i < h->level_count; i++)
        factor *= h->levels[i].resample.weight ? 2 : 1;
    return factor;
}

int kl_load(struct kl **out, const struct named_weights *names, struct device *d, struct error *e)
{
    struct kl *k = xcalloc(1, sizeof *k);
    struct loader *l = &k->loader;
    loader_init(l, names, d, e);
    k->sizes.has_encoder = loader_has(l, "encoder.conv_in.weight");
    k->sizes.has_decoder = loader_has(l, "decoder.conv_in.weight");
    int64_t moments = 0;
    if (!k->sizes.has_encoder && !k->sizes.has_decoder)
        loader_fail(l, "tensors 'encoder.conv_in.weight' and 'decoder.conv_in.weight' are missing");
    if (k->sizes.has_encoder) {
        struct tensor *first = loader_get(l, DIMS(-1, -1, 3, 3), "encoder.conv_in.weight");
        k->sizes.image_channels = first ? first->shape[1] : 0;
        load_half(l, &k->encoder, k->sizes.image_channels, &moments, true);
        k->quant = load_conv(l, -1, moments, 1, "", "quant_conv");
        if (!l->failed)
            k->sizes.latent_channels = k->quant.weight->shape[0] / 2;
        k->sizes.factor = half_factor(&k->encoder);
    }
    if (k->sizes.has_decoder && !l->failed) {
        k->post_quant = load_conv(l, -1, k->sizes.has_encoder ? k->sizes.latent_channels : -1, 1,
                                  "", "post_quant_conv");
        if (!l->failed) {
            k->sizes.latent_channels = k->post_quant.weight->shape[1];
            load_half(l, &k->decoder, k->post_quant.weight->shape[0], &k->sizes.image_channels,
                      false);
            k->sizes.factor = half_factor(&k->decoder);
        }
    }
    if (l->failed) {
        kl_free(k);
        return -1;
    }
    k->sizes.parameters = architecture_parameters(names, kl_tensor_kind);
    *out = k;
    return 0;
}

int kl_describe(struct description *d, const struct named_weights *names, struct error *e)
{
    bool has_encoder = names_find(names, "encoder.conv_in.weight");
    const char *levels = has_encoder ? "encoder.down" : "decoder.up";
    const char *latent_name = has_encoder ? "quant_conv.weight" : "post_quant_conv.weight";
    const char *first_name = has_encoder ? "encoder.conv_in.bias" : "decoder.norm_out.bias";
    const struct weight *latent = description_find(names, 4, "%s", latent_name),
                        *first = description_find(names, 1, "%s", first_name), *t;
    if (!latent || !first)
        return error_set(e, "tensor '%s' is missing or unusable",
                         latent ? first_name : latent_name);
    description_add(d, "KL autoencoder, ch %" PRId64 ", multipliers ", first->shape[0]);
    for (int i = 0; (t = description_find(names, 4, "%s.%d.block.0.conv1.weight", levels, i)); i++)
        description_add(d, "%s%" PRId64, i ? "," : "", t->shape[0] / first->shape[0]);
    int blocks = 0;
    while (description_find(names, 4, "%s.0.block.%d.conv1.weight", levels, blocks))
        blocks++;
    description_add(d, ", %d blocks a level, z %" PRId64, has_encoder ? blocks : blocks - 1,
                    has_encoder ? latent->shape[0] / 2 : latent->shape[1]);
    if (!has_encoder || !names_find(names, "decoder.conv_in.weight"))
        description_add(d, ", %s only", has_encoder ? "encoder" : "decoder");
    return 0;
}

void kl_free(struct kl *k)
{
    if (!k)
        return;
    loader_release(&k->loader);
    free(k);
}

struct loader *kl_loader(struct kl *k)
{
    return &k->loader;
}

const struct kl_sizes *kl_sizes(const struct kl *k)
{
    return &k->sizes;
}

static struct tensor *norm(struct tape *t, struct tensor *x, const struct affine *a,
                           enum activation_kind act)
{
    return group_norm(t, x, a->groups, NORM_EPS, a->weight, a->bias, NULL, 0, act);
}

/* The following functions take over the reference to x. */
static struct tensor *run_conv3x3(struct tape *t, const struct affine *a, struct tensor *x)
{
    tensor_replace(&x, conv2d(t, x, a->weight, a->bias, 1, 1, 1));
    return x;
}

static struct tensor *run_conv1x1(struct tape *t, const struct affine *a, struct tensor *x)
{
    tensor_replace(&x, linear(t, x, a->weight, a->bias, ACTIVATION_NONE));
    return x;
}

static struct tensor *run_res_block(struct tape *t, const struct res_block *b, struct tensor *x)
{
    struct tensor *h = norm(t, x, &b->norm[0], ACTIVATION_SILU);
    h = run_conv3x3(t, &b->conv[0], h);
    tensor_replace(&h, norm(t, h, &b->norm[1], ACTIVATION_SILU));
    const struct affine *last = &b->conv[1], *shortcut = &b->shortcut;
    if (shortcut->weight) {
        h = run_conv3x3(t, last, h);
        tensor_replace(&h, linear_add(t, h, x, shortcut->weight, shortcut->bias));
    } else {
        tensor_replace(&h, conv2d_add(t, x, h, last->weight, last->bias, 1, 1, 1));
    }
    tensor_release(x);
    return h;
}

static struct tensor *run_attention(struct tape *t, const struct attention_block *a,
                                    struct tensor *x)
{
    if (!a->norm.weight)
        return x;
    int64_t n = x->shape[0], s = x->shape[1] * x->shape[2], c = x->shape[3];
    struct tensor *h = norm(t, x, &a->norm, ACTIVATION_NONE);
    tensor_replace(&h, reshape(t, h, DIMS(n, s, c)));
    struct tensor *q = linear(t, h, a->q.weight, a->q.bias, ACTIVATION_NONE);
    struct tensor *k = linear(t, h, a->k.weight, a->k.bias, ACTIVATION_NONE);
    struct tensor *v = linear(t, h, a->v.weight, a->v.bias, ACTIVATION_NONE);
    tensor_replace(&h, attention(t, q, k, v, 1, NULL));
    tensor_release(q);
    tensor_release(k);
    tensor_release(v);
    tensor_replace(&h, reshape(t, h, x->ndim, x->shape));
    tensor_replace(&h, linear_add(t, x, h, a->out.weight, a->out.bias));
    tensor_release(x);
    return h;
}

static struct tensor *run_level_blocks(struct tape *t, const struct level *level, struct tensor *x)
{
    for (int i = 0; i < level->count; i++) {
        x = run_res_block(t, &level->blocks[i], x);
        x = run_attention(t, &level->attention[i], x);
    }
    return x;
}

static struct tensor *run_middle(struct tape *t, const struct half *h, struct tensor *x)
{
    x = run_res_block(t, &h->middle[0], x);
    x = run_attention(t, &h->middle_attention, x);
    return run_res_block(t, &h->middle[1], x);
}

static struct tensor *run_out(struct tape *t, const struct half *h, struct tensor *x)
{
    tensor_replace(&x, norm(t, x, &h->norm_out, ACTIVATION_SILU));
    return run_conv3x3(t, &h->conv_out, x);
}

struct tensor *kl_encode(struct tape *t, const struct kl *k, struct tensor *image)
{
    CHECK(k->sizes.has_encoder && image->shape[1] == k->sizes.image_channels);
    CHECK(image->shape[2] % k->sizes.factor == 0 && image->shape[3] % k->sizes.factor == 0);
    struct tensor *x = run_conv3x3(t, &k->encoder.conv_in, to_nhwc(t, image, NULL, NULL));
    for (int i = 0; i < k->encoder.level_count; i++) {
        const struct level *level = &k->encoder.levels[i];
        x = run_level_blocks(t, level, x);
        /* Padded by one on the right and at the bottom only. */
        if (level->resample.weight)
            tensor_replace(&x, conv2d(t, x, level->resample.weight, level->resample.bias, 2, 0, 1));
    }
    x = run_out(t, &k->encoder, run_middle(t, &k->encoder, x));
    x = run_conv1x1(t, &k->quant, x);
    tensor_replace(&x, to_nchw(t, x));
    return x;
}

struct tensor *kl_decode(struct tape *t, const struct kl *k, struct tensor *z)
{
    return kl_decode_keeping(t, k, z, NULL);
}

struct tensor *kl_last_weight(const struct kl *k)
{
    return k->decoder.conv_out.weight;
}

struct tensor *kl_decode_keeping(struct tape *t, const struct kl *k, struct tensor *z,
                                 struct tensor **last)
{
    CHECK(k->sizes.has_decoder && z->ndim == 4 && z->shape[1] == k->sizes.latent_channels);
    struct tensor *x = run_conv1x1(t, &k->post_quant, to_nhwc(t, z, NULL, NULL));
    x = run_conv3x3(t, &k->decoder.conv_in, x);
    x = run_middle(t, &k->decoder, x);
    for (int i = k->decoder.level_count - 1; i >= 0; i--) {
        const struct level *level = &k->decoder.levels[i];
        x = run_level_blocks(t, level, x);
        if (level->resample.weight) {
            tensor_replace(&x, upsample_nearest2x(t, x));
            x = run_conv3x3(t, &level->resample, x);
        }
    }
    tensor_replace(&x, norm(t, x, &k->decoder.norm_out, ACTIVATION_SILU));
    if (last)
        *last = tensor_retain(x);
    x = run_conv3x3(t, &k->decoder.conv_out, x);
    tensor_replace(&x, to_nchw(t, x));
    return x;
}
