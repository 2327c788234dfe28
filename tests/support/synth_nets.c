#include "tests/support/synth_nets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "tests/support/synth.h"

#define MAPPING_FEATURES  128
#define TIMESTEP_FEATURES 16

static struct synth_tensor *add(struct synth_plan *p, const char *prefix, const char *name,
                                int ndim, const int64_t *shape)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        p->items = xrealloc(p->items, (size_t)p->capacity * sizeof *p->items);
    }
    struct synth_tensor *t = &p->items[p->count++];
    *t = (struct synth_tensor){.ndim = ndim, .gain = p->gain && ndim >= 2};
    int n = snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    CHECK(n > 0 && (size_t)n < sizeof t->name);
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    return t;
}

static void add_vector(struct synth_plan *p, const char *prefix, const char *name, int64_t n)
{
    add(p, prefix, name, 1, (int64_t[]){n});
}

static void add_matrix(struct synth_plan *p, const char *prefix, const char *name, int64_t rows,
                       int64_t columns)
{
    add(p, prefix, name, 2, (int64_t[]){rows, columns});
}

/* `name`.weight and `name`.bias of a linear layer. */
static void add_linear(struct synth_plan *p, const char *prefix, const char *name, int64_t in,
                       int64_t out)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add_matrix(p, full, "weight", out, in);
    add_vector(p, full, "bias", out);
}

static void add_conv(struct synth_plan *p, const char *prefix, const char *name, int64_t in,
                     int64_t out, int64_t side)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add(p, full, "weight", 4, (int64_t[]){out, in, side, side});
    add_vector(p, full, "bias", out);
}

static void add_norm(struct synth_plan *p, const char *prefix, const char *name, int64_t n)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add_vector(p, full, "weight", n);
    add_vector(p, full, "bias", n);
}

/* U-Net: names are indices into the reference's nested Sequentials. */

static void unet_conv_block(struct synth_plan *p, const char *path, int index, int64_t cond,
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

static void unet_attention(struct synth_plan *p, const char *path, int index, int64_t c)
{
    char prefix[100];
    snprintf(prefix, sizeof prefix, "%s%d.", path, index);
    add_norm(p, prefix, "norm", c);
    add_conv(p, prefix, "qkv_proj", c, 3 * c, 1);
    add_conv(p, prefix, "out_proj", c, c, 1);
}

/* `blocks` conv blocks of c channels from `index` on, each followed by attention if so wanted; the
 * first takes `in` channels, the last gives `out`. Returns the index behind them. */
static int unet_run(struct synth_plan *p, const char *path, int index, int blocks, int64_t cond,
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

static void unet_level(struct synth_plan *p, const char *path, int level, int64_t cond,
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

void synth_plan_unet(struct synth_plan *p, const struct synth_sizes *o)
{
    const int64_t *multipliers = o->unet_multipliers;
    int64_t c[4], cond = o->unet_cond;
    for (int i = 0; i < 4; i++) {
        c[i] = o->unet_base * multipliers[i];
        if (c[i] % 64 && i > 0)
            die("U-Net channels must be multiples of 64: %lld * %lld is not",
                (long long)o->unet_base, (long long)multipliers[i]);
    }
    struct synth_tensor *scale = add(p, "", "autoencoder_scale", 1, (int64_t[]){1});
    scale->is_scalar = true;
    scale->value = (float)o->autoencoder_scale;
    add_matrix(p, "", "mapping_timestep_embed.weight", MAPPING_FEATURES / 2, 1);
    p->gain = true;
    int64_t in = o->embed + MAPPING_FEATURES;
    add_linear(p, "mapping.0.", "main.0", in, cond);
    add_linear(p, "mapping.0.", "main.2", cond, cond);
    if (in != cond)
        add_matrix(p, "mapping.0.", "skip.weight", cond, in);
    add_linear(p, "mapping.1.", "main.0", cond, cond);
    add_linear(p, "mapping.1.", "main.2", cond, cond);
    p->gain = false;
    add_matrix(p, "", "timestep_embed.weight", TIMESTEP_FEATURES / 2, 1);
    p->gain = true;
    unet_level(p, "net.", 0, cond, c, o->latent);
}

/* KL autoencoder, as CompVis names it. */

static void kl_block(struct synth_plan *p, const char *prefix, int64_t in, int64_t out)
{
    add_norm(p, prefix, "norm1", in);
    add_conv(p, prefix, "conv1", in, out, 3);
    add_norm(p, prefix, "norm2", out);
    add_conv(p, prefix, "conv2", out, out, 3);
    if (in != out)
        add_conv(p, prefix, "nin_shortcut", in, out, 1);
}

static void kl_middle(struct synth_plan *p, const char *half, int64_t c)
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

void synth_plan_kl(struct synth_plan *p, const struct synth_sizes *o)
{
    const int64_t *multipliers = o->kl_multipliers;
    int levels = o->kl_levels;
    int64_t ch = o->kl_channels, c = ch, z = o->latent;
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
    add_conv(p, "", "quant_conv", 2 * z, 2 * z, 1);
    add_conv(p, "", "post_quant_conv", z, z, 1);
}

/* CLOOB towers. */

static void cloob_layers(struct synth_plan *p, const char *tower, int64_t layers, int64_t d)
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

void synth_plan_cloob(struct synth_plan *p, const struct synth_sizes *o)
{
    int64_t d = o->image_width, side = o->image_size / o->patch;
    if (o->image_size % o->patch)
        die("the image size must be a multiple of the patch size");
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

size_t synth_count(const struct synth_tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->shape[i];
    return n;
}

void synth_fill(float *out, const struct synth_tensor *t, uint64_t seed, float gain)
{
    size_t n = synth_count(t);
    if (t->is_scalar) {
        out[0] = t->value;
        return;
    }
    synth_weight(out, t->name, t->ndim, t->shape, seed);
    for (size_t i = 0; t->gain && i < n; i++)
        out[i] *= gain;
}

struct fill_job {
    const struct synth_plan *plan;
    float **data;
    uint64_t seed;
    float gain;
};

static void fill_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct fill_job *j = arg;
    for (int64_t i = begin; i < end; i++)
        synth_fill(j->data[i], &j->plan->items[i], j->seed, j->gain);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weight *)a)->name, ((const struct weight *)b)->name);
}

void synth_named_weights(struct named_weights *out, float **memory, const struct synth_plan *p,
                         enum net net, uint64_t seed, float gain)
{
    size_t total = 0;
    float **data = xmalloc((size_t)p->count * sizeof *data);
    for (int i = 0; i < p->count; i++)
        total += synth_count(&p->items[i]);
    *memory = xmalloc(total * sizeof(float));
    *out = (struct named_weights){.net = net, .count = p->count};
    out->items = xcalloc((size_t)p->count, sizeof *out->items);
    float *at = *memory;
    for (int i = 0; i < p->count; i++) {
        const struct synth_tensor *t = &p->items[i];
        struct weight *w = &out->items[i];
        data[i] = at;
        w->name = t->name;
        w->dtype = DTYPE_F32;
        w->ndim = t->ndim;
        memcpy(w->shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
        w->data = at;
        weight_set_row_major(w);
        at += synth_count(t);
    }
    struct fill_job j = {p, data, seed, gain};
    parallel_for(p->count, 1, fill_some, &j);
    free(data);
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_name);
}
