#include "common/nets/architecture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

#define MAPPING_FEATURES  128
#define TIMESTEP_FEATURES 16
#define HEAD_WIDTH        64

const struct net_sizes net_sizes_published = {
    .latent = 4,
    .embed = 512,
    .unet_base = 192,
    .unet_multipliers = {4, 4, 8, 8},
    .unet_cond = UNET_COND_WIDTH,
    .autoencoder_scale = 8.0779,
    .kl_channels = 128,
    .kl_multipliers = {1, 2, 4, 4},
    .kl_blocks = 2,
    .kl_levels = 4,
    .image_size = 224,
    .patch = 16,
    .image_width = 768,
    .image_layers = 12,
    .text_positions = 77,
    .text_width = 512,
    .text_layers = 12,
    .vocabulary = 49408,
};

static struct tensor_spec *add(struct architecture *p, const char *prefix, const char *name,
                               int ndim, const int64_t *shape)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        p->items = xrealloc(p->items, (size_t)p->capacity * sizeof *p->items);
    }
    struct tensor_spec *t = &p->items[p->count++];
    *t = (struct tensor_spec){.ndim = ndim};
    int n = snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    CHECK(n > 0 && (size_t)n < sizeof t->name);
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    return t;
}

static void add_vector(struct architecture *p, const char *prefix, const char *name, int64_t n)
{
    add(p, prefix, name, 1, (int64_t[]){n});
}

static void add_matrix(struct architecture *p, const char *prefix, const char *name, int64_t rows,
                       int64_t columns)
{
    add(p, prefix, name, 2, (int64_t[]){rows, columns});
}

static void add_fixed(struct architecture *p, const char *name, int64_t rows)
{
    add(p, "", name, 2, (int64_t[]){rows, 1})->kind = TENSOR_FIXED;
}

/* `name`.weight and `name`.bias of a linear layer. */
static void add_linear(struct architecture *p, const char *prefix, const char *name, int64_t in,
                       int64_t out)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add_matrix(p, full, "weight", out, in);
    add_vector(p, full, "bias", out);
}

static void add_conv(struct architecture *p, const char *prefix, const char *name, int64_t in,
                     int64_t out, int64_t side)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add(p, full, "weight", 4, (int64_t[]){out, in, side, side});
    add_vector(p, full, "bias", out);
}

static void add_norm(struct architecture *p, const char *prefix, const char *name, int64_t n)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add_vector(p, full, "weight", n);
    add_vector(p, full, "bias", n);
}

/* U-Net: names are indices into the reference's nested Sequentials. */

static void unet_conv_block(struct architecture *p, const char *path, int index, int64_t cond,
                            int64_t in, int64_t mid, int64_t out, bool last)
{
    char prefix[100];
    snprintf(prefix, sizeof prefix, "%s%d.", path, index);
    add_conv(p, prefix, "main.0", in, mid, 3);
    add_matrix(p, prefix, "main.2.layer.weight", 2 * mid, cond);
    add_conv(p, prefix, "main.4", mid, out, 3);
    if (!last)
        add_matrix(p, prefix, "main.6.layer.weight", 2 * out, cond);
    if (in != out)
        add(p, prefix, "skip.weight", 4, (int64_t[]){out, in, 1, 1});
}

static void unet_attention(struct architecture *p, const char *path, int index, int64_t c)
{
    char prefix[100];
    snprintf(prefix, sizeof prefix, "%s%d.", path, index);
    add_norm(p, prefix, "norm", c);
    add_conv(p, prefix, "qkv_proj", c, 3 * c, 1);
    add_conv(p, prefix, "out_proj", c, c, 1);
}

/* `blocks` conv blocks of c channels from `index` on, each followed by attention if so wanted; the
 * first takes `in` channels, the last gives `out`. Returns the index behind them. */
static int unet_run(struct architecture *p, const char *path, int index, int blocks, int64_t cond,
                    int64_t in, int64_t c, int64_t out, bool attention, bool last_of_all)
{
    for (int i = 0; i < blocks; i++) {
        bool end = i == blocks - 1;
        unet_conv_block(p, path, index++, cond, i ? c : in, c, end ? out : c, end && last_of_all);
        if (attention)
            unet_attention(p, path, index++, end ? out : c);
    }
    return index;
}

static void unet_level(struct architecture *p, const char *path, int level, int64_t cond,
                       const int64_t *c, int64_t latent)
{
    bool top = level == 0;
    int index = top ? 0 : 1; /* below the top, 0 is the downsampling */
    int64_t in = top ? latent + TIMESTEP_FEATURES : c[level - 1];
    int64_t out = top ? latent : c[level - 1];
    if (level == 3) {
        unet_run(p, path, index, 8, cond, in, c[3], out, true, false);
        return;
    }
    index = unet_run(p, path, index, 4, cond, in, c[level], c[level], !top, false);
    char inner[100];
    snprintf(inner, sizeof inner, "%s%d.main.", path, index++);
    unet_level(p, inner, level + 1, cond, c, latent);
    unet_run(p, path, index, 4, cond, 2 * c[level], c[level], out, !top, top);
}

int net_sizes_check_unet(const struct net_sizes *s, struct error *e)
{
    if (s->latent < 1 || s->embed < 1 || s->unet_cond < 1)
        return error_set(e, "widths must be positive");
    for (int i = 0; i < 4; i++) {
        int64_t c = s->unet_base * s->unet_multipliers[i];
        if (c < HEAD_WIDTH || c % HEAD_WIDTH)
            return error_set(e, "U-Net channels must be multiples of %d: %lld * %lld is not",
                             HEAD_WIDTH, (long long)s->unet_base,
                             (long long)s->unet_multipliers[i]);
    }
    return 0;
}

void unet_architecture(struct architecture *p, const struct net_sizes *o)
{
    struct error e;
    const int64_t *multipliers = o->unet_multipliers;
    int64_t c[4], cond = o->unet_cond;
    CHECK(net_sizes_check_unet(o, &e) == 0);
    for (int i = 0; i < 4; i++)
        c[i] = o->unet_base * multipliers[i];
    struct tensor_spec *scale = add(p, "", "autoencoder_scale", 1, (int64_t[]){1});
    scale->kind = TENSOR_SCALAR;
    scale->value = (float)o->autoencoder_scale;
    add_fixed(p, "mapping_timestep_embed.weight", MAPPING_FEATURES / 2);
    int64_t in = o->embed + MAPPING_FEATURES;
    add_linear(p, "mapping.0.", "main.0", in, cond);
    add_linear(p, "mapping.0.", "main.2", cond, cond);
    if (in != cond)
        add_matrix(p, "mapping.0.", "skip.weight", cond, in);
    add_linear(p, "mapping.1.", "main.0", cond, cond);
    add_linear(p, "mapping.1.", "main.2", cond, cond);
    add_fixed(p, "timestep_embed.weight", TIMESTEP_FEATURES / 2);
    unet_level(p, "net.", 0, cond, c, o->latent);
}

/* KL autoencoder, as CompVis names it. */

static void kl_block(struct architecture *p, const char *prefix, int64_t in, int64_t out)
{
    add_norm(p, prefix, "norm1", in);
    add_conv(p, prefix, "conv1", in, out, 3);
    add_norm(p, prefix, "norm2", out);
    add_conv(p, prefix, "conv2", out, out, 3);
    if (in != out)
        add_conv(p, prefix, "nin_shortcut", in, out, 1);
}

static void kl_middle(struct architecture *p, const char *half, int64_t c)
{
    char prefix[80];
    snprintf(prefix, sizeof prefix, "%smid.block_1.", half);
    kl_block(p, prefix, c, c);
    snprintf(prefix, sizeof prefix, "%smid.attn_1.", half);
    add_norm(p, prefix, "norm", c);
    static const char *const projections[] = {"q", "k", "v", "proj_out"};
    for (int i = 0; i < 4; i++)
        add_conv(p, prefix, projections[i], c, c, 1);
    snprintf(prefix, sizeof prefix, "%smid.block_2.", half);
    kl_block(p, prefix, c, c);
}

void kl_architecture(struct architecture *p, const struct net_sizes *o)
{
    const int64_t *multipliers = o->kl_multipliers;
    int levels = o->kl_levels;
    int64_t ch = o->kl_channels, c = ch, latent = o->latent, z = o->kl_z ? o->kl_z : latent;
    char prefix[80];
    add_conv(p, "encoder.", "conv_in", 3, ch, 3);
    for (int level = 0; level < levels; level++) {
        for (int b = 0; b < o->kl_blocks; b++) {
            snprintf(prefix, sizeof prefix, "encoder.down.%d.block.%d.", level, b);
            kl_block(p, prefix, c, ch * multipliers[level]);
            c = ch * multipliers[level];
        }
        snprintf(prefix, sizeof prefix, "encoder.down.%d.downsample.", level);
        if (level < levels - 1)
            add_conv(p, prefix, "conv", c, c, 3);
    }
    kl_middle(p, "encoder.", c);
    add_norm(p, "encoder.", "norm_out", c);
    add_conv(p, "encoder.", "conv_out", c, 2 * z, 3);

    add_conv(p, "decoder.", "conv_in", z, c, 3);
    kl_middle(p, "decoder.", c);
    for (int level = levels - 1; level >= 0; level--) {
        for (int b = 0; b <= o->kl_blocks; b++) {
            snprintf(prefix, sizeof prefix, "decoder.up.%d.block.%d.", level, b);
            kl_block(p, prefix, c, ch * multipliers[level]);
            c = ch * multipliers[level];
        }
        snprintf(prefix, sizeof prefix, "decoder.up.%d.upsample.", level);
        if (level > 0)
            add_conv(p, prefix, "conv", c, c, 3);
    }
    add_norm(p, "decoder.", "norm_out", c);
    add_conv(p, "decoder.", "conv_out", c, 3, 3);
    add_conv(p, "", "quant_conv", 2 * z, 2 * latent, 1);
    add_conv(p, "", "post_quant_conv", latent, z, 1);
    if (o->kl_groups && o->kl_groups != KL_NORM_GROUPS) {
        struct tensor_spec *groups = add(p, "", "norm_groups", 1, (int64_t[]){1});
        groups->kind = TENSOR_SCALAR;
        groups->value = (float)o->kl_groups;
    }
}

/* CLOOB towers. */

static void cloob_layers(struct architecture *p, const char *tower, int64_t layers, int64_t d)
{
    static const char *const projections[] = {"attn.query", "attn.key", "attn.value", "attn.out"};
    char prefix[80];
    for (int64_t i = 0; i < layers; i++) {
        snprintf(prefix, sizeof prefix, "%slayers.%lld.", tower, (long long)i);
        add_norm(p, prefix, "attn.norm", d);
        for (int j = 0; j < 4; j++)
            add_linear(p, prefix, projections[j], d, d);
        add_norm(p, prefix, "ff.norm", d);
        add_linear(p, prefix, "ff.linear_0", d, 4 * d);
        add_linear(p, prefix, "ff.linear_1", 4 * d, d);
    }
}

void cloob_architecture(struct architecture *p, const struct net_sizes *o)
{
    int64_t d = o->image_width, side = o->image_size / o->patch;
    CHECK(o->image_size % o->patch == 0);
    add_vector(p, "image_encoder.", "class_embed", d);
    add(p, "image_encoder.", "embed.weight", 4, (int64_t[]){d, 3, o->patch, o->patch});
    add_matrix(p, "image_encoder.", "pos_embed.weight", side * side + 1, d);
    cloob_layers(p, "image_encoder.", o->image_layers, d);
    add_linear(p, "image_encoder.", "proj", d, o->embed);

    d = o->text_width;
    add_matrix(p, "text_encoder.", "embed.weight", o->vocabulary, d);
    add_matrix(p, "text_encoder.", "pos_embed.weight", o->text_positions, d);
    cloob_layers(p, "text_encoder.", o->text_layers, d);
    add_linear(p, "text_encoder.", "proj", d, o->embed);
}

/* PatchGAN discriminator, as taming-transformers names it. */
void patch_discriminator_architecture(struct architecture *p, int64_t image_channels,
                                      int64_t channels, int layers)
{
    char name[40];
    int64_t c = channels;
    CHECK(layers >= 1);
    add_conv(p, "", "main.0", image_channels, c, 4);
    for (int i = 1; i <= layers; i++) {
        int64_t out = channels * (i < 3 ? 1 << i : 8);
        snprintf(name, sizeof name, "main.%d.weight", 3 * i - 1);
        add(p, "", name, 4, (int64_t[]){out, c, 4, 4});
        snprintf(name, sizeof name, "main.%d", 3 * i);
        add_norm(p, "", name, out);
        c = out;
    }
    snprintf(name, sizeof name, "main.%d", 3 * layers + 2);
    add_conv(p, "", name, c, 1, 4);
}

void architecture_release(struct architecture *p)
{
    free(p->items);
    *p = (struct architecture){0};
}

int64_t tensor_spec_count(const struct tensor_spec *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->shape[i];
    return n;
}

enum tensor_kind tensor_kind_of(enum net net, const char *name)
{
    if (net == NET_KL && strcmp(name, "norm_groups") == 0)
        return TENSOR_SCALAR;
    if (net != NET_UNET)
        return TENSOR_TRAINED;
    if (strcmp(name, "autoencoder_scale") == 0)
        return TENSOR_SCALAR;
    bool fourier = strcmp(name, "timestep_embed.weight") == 0 ||
                   strcmp(name, "mapping_timestep_embed.weight") == 0;
    return fourier ? TENSOR_FIXED : TENSOR_TRAINED;
}
