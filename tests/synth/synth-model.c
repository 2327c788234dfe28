/* Writes a model folder whose weights are the golden files' formula (tests/support/synth.h): good
 * for exercising every program and for timing, its pictures are noise. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "formats/safetensors.h"
#include "tests/support/synth.h"

#define UNET_GAIN                                                                                  \
    0.5f /* the golden U-Net files' factor on trained weights of 2 or more dimensions */
#define MAPPING_FEATURES  128
#define TIMESTEP_FEATURES 16
#define MAX_LEVELS        8

struct synth_options {
    const char *folder;
    bool unet_only;
    uint64_t seed;
    int64_t unet_base, unet_cond, kl_channels, kl_blocks, latent, embed;
    const char *unet_multipliers, *kl_multipliers;
    int64_t image_size, patch, image_width, image_layers;
    int64_t text_positions, text_width, text_layers, vocabulary;
    double autoencoder_scale;
};

struct tensor_plan {
    char name[120];
    int ndim;
    int64_t shape[4];
    bool gain;      /* times UNET_GAIN */
    bool is_scalar; /* value below, not the formula */
    float value;
};

struct plan {
    struct tensor_plan *items;
    int count, capacity;
    bool gain; /* for what is added from now on */
};

static struct tensor_plan *add(struct plan *p, const char *prefix, const char *name, int ndim,
                               const int64_t *shape)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        p->items = xrealloc(p->items, (size_t)p->capacity * sizeof *p->items);
    }
    struct tensor_plan *t = &p->items[p->count++];
    *t = (struct tensor_plan){.ndim = ndim, .gain = p->gain && ndim >= 2};
    int n = snprintf(t->name, sizeof t->name, "%s%s", prefix, name);
    CHECK(n > 0 && (size_t)n < sizeof t->name);
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    return t;
}

static void add_vector(struct plan *p, const char *prefix, const char *name, int64_t n)
{
    add(p, prefix, name, 1, (int64_t[]){n});
}

static void add_matrix(struct plan *p, const char *prefix, const char *name, int64_t rows,
                       int64_t columns)
{
    add(p, prefix, name, 2, (int64_t[]){rows, columns});
}

/* `name`.weight and `name`.bias of a linear layer. */
static void add_linear(struct plan *p, const char *prefix, const char *name, int64_t in,
                       int64_t out)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add_matrix(p, full, "weight", out, in);
    add_vector(p, full, "bias", out);
}

static void add_conv(struct plan *p, const char *prefix, const char *name, int64_t in, int64_t out,
                     int64_t side)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add(p, full, "weight", 4, (int64_t[]){out, in, side, side});
    add_vector(p, full, "bias", out);
}

static void add_norm(struct plan *p, const char *prefix, const char *name, int64_t n)
{
    char full[120];
    snprintf(full, sizeof full, "%s%s.", prefix, name);
    add_vector(p, full, "weight", n);
    add_vector(p, full, "bias", n);
}

/* U-Net: names are indices into the reference's nested Sequentials. */

static void unet_conv_block(struct plan *p, const char *path, int index, int64_t cond, int64_t in,
                            int64_t mid, int64_t out, bool last)
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

static void unet_attention(struct plan *p, const char *path, int index, int64_t c)
{
    char prefix[100];
    snprintf(prefix, sizeof prefix, "%s%d.", path, index);
    add_norm(p, prefix, "norm", c);
    add_conv(p, prefix, "qkv_proj", c, 3 * c, 1);
    add_conv(p, prefix, "out_proj", c, c, 1);
}

/* `blocks` conv blocks of c channels from `index` on, each followed by attention if so wanted; the
 * first takes `in` channels, the last gives `out`. Returns the index behind them. */
static int unet_run(struct plan *p, const char *path, int index, int blocks, int64_t cond,
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

static void unet_level(struct plan *p, const char *path, int level, int64_t cond, const int64_t *c,
                       int64_t latent)
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

static void plan_unet(struct plan *p, const struct synth_options *o, const int64_t *multipliers)
{
    int64_t c[4], cond = o->unet_cond;
    for (int i = 0; i < 4; i++) {
        c[i] = o->unet_base * multipliers[i];
        if (c[i] % 64 && i > 0)
            die("U-Net channels must be multiples of 64: %lld * %lld is not",
                (long long)o->unet_base, (long long)multipliers[i]);
    }
    struct tensor_plan *scale = add(p, "", "autoencoder_scale", 1, (int64_t[]){1});
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

static void kl_block(struct plan *p, const char *prefix, int64_t in, int64_t out)
{
    add_norm(p, prefix, "norm1", in);
    add_conv(p, prefix, "conv1", in, out, 3);
    add_norm(p, prefix, "norm2", out);
    add_conv(p, prefix, "conv2", out, out, 3);
    if (in != out)
        add_conv(p, prefix, "nin_shortcut", in, out, 1);
}

static void kl_middle(struct plan *p, const char *half, int64_t c)
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

static void plan_kl(struct plan *p, const struct synth_options *o, const int64_t *multipliers,
                    int levels)
{
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

static void cloob_layers(struct plan *p, const char *tower, int64_t layers, int64_t d)
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

static void plan_cloob(struct plan *p, const struct synth_options *o)
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

static size_t element_count(const struct tensor_plan *t)
{
    size_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= (size_t)t->shape[i];
    return n;
}

/* One tensor in memory at a time. */
static int append_tensor(struct safetensors_writer *s, const struct tensor_plan *t, uint64_t seed,
                         struct error *e)
{
    size_t n = element_count(t);
    float *data = xmalloc(n * sizeof *data);
    if (t->is_scalar)
        data[0] = t->value;
    else
        synth_weight(data, t->name, t->ndim, t->shape, seed);
    for (size_t i = 0; t->gain && i < n; i++)
        data[i] *= UNET_GAIN;
    int result = safetensors_append(s, data, n * sizeof *data, e);
    free(data);
    return result;
}

static void write_model(const struct plan *p, const struct synth_options *o, const char *name)
{
    char *path = path_join(o->folder, name), text[32];
    struct safetensors_writer *s;
    struct error e;
    if (safetensors_create(&s, path, &e) < 0)
        die("cannot write '%s': %s", path, e.text);
    snprintf(text, sizeof text, "%llu", (unsigned long long)o->seed);
    safetensors_metadata(s, "synthetic_seed", text);
    double parameters = 0;
    for (int i = 0; i < p->count; i++) {
        const struct tensor_plan *t = &p->items[i];
        safetensors_declare(s, t->name, DTYPE_F32, t->ndim, t->shape);
        parameters += t->is_scalar ? 0 : (double)element_count(t);
    }
    int failed = 0;
    for (int i = 0; i < p->count && !failed; i++)
        failed = append_tensor(s, &p->items[i], o->seed, &e);
    if (failed)
        safetensors_abandon(s);
    if (failed || safetensors_commit(s, &e) < 0)
        die("cannot write '%s': %s", path, e.text);
    note("%s: %.0f parameters", path, parameters);
    free(path);
}

static int parse_multipliers(int64_t *m, const char *option, const char *text)
{
    int n = 0;
    for (const char *c = text; n < MAX_LEVELS; c++) {
        char *end;
        long v = strtol(c, &end, 10);
        if (end == c || v < 1 || v > 64 || (*end && *end != ','))
            break;
        m[n++] = v;
        if (!*end)
            return n;
        c = end;
    }
    die_usage("option '--%s': '%s' is not a list like 1,2,4,4", option, text);
}

static const struct synth_options tiny = {
    .folder = "model",
    .seed = 1,
    .unet_base = 16,
    .unet_cond = 128,
    .unet_multipliers = "4,4,4,4",
    .kl_channels = 32,
    .kl_multipliers = "1,1,2,2",
    .kl_blocks = 1,
    .latent = 4,
    .embed = 512,
    .image_size = 224,
    .patch = 32,
    .image_width = 64,
    .image_layers = 2,
    .text_positions = 77,
    .text_width = 64,
    .text_layers = 2,
    .vocabulary = 2048,
    .autoencoder_scale = 8.0779,
};

static const struct synth_options published = {
    .seed = 1,
    .unet_base = 192,
    .unet_cond = 1024,
    .unet_multipliers = "4,4,8,8",
    .kl_channels = 128,
    .kl_multipliers = "1,2,4,4",
    .kl_blocks = 2,
    .latent = 4,
    .embed = 512,
    .image_size = 224,
    .patch = 16,
    .image_width = 768,
    .image_layers = 12,
    .text_positions = 77,
    .text_width = 512,
    .text_layers = 12,
    .vocabulary = 49408,
    .autoencoder_scale = 8.0779,
};

static struct synth_options parse(int argc, char **argv)
{
    static struct synth_options o;
    static bool full;
    o = tiny;
    /* --full changes the defaults that the other options then override. */
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--full")) {
            o = published;
            o.folder = tiny.folder;
        }
#define SIZE(n, field, text)                                                                       \
    {                                                                                              \
        .name = n, .kind = OPTION_INT, .value = &o.field, .argument = "N", .help = text, .min = 1, \
        .max = 1000000                                                                             \
    }
    const struct option options[] = {
        {.name = "output",
         .letter = 'o',
         .kind = OPTION_STRING,
         .value = &o.folder,
         .argument = "DIR",
         .help = "folder to write, made if need be"},
        {.name = "full",
         .kind = OPTION_FLAG,
         .value = &full,
         .help = "sizes of the published models (5.6 GB)"},
        {.name = "seed",
         .kind = OPTION_SEED,
         .value = &o.seed,
         .argument = "N",
         .help = "seed of the weights"},
        SIZE("unet-base", unet_base, "U-Net: base channels"),
        {.name = "unet-multipliers",
         .kind = OPTION_STRING,
         .value = &o.unet_multipliers,
         .argument = "LIST",
         .help = "U-Net: channel multipliers of the four resolutions"},
        SIZE("unet-cond", unet_cond, "U-Net: width of the conditioning vector"),
        SIZE("kl-channels", kl_channels, "autoencoder: base channels"),
        {.name = "kl-multipliers",
         .kind = OPTION_STRING,
         .value = &o.kl_multipliers,
         .argument = "LIST",
         .help = "autoencoder: channel multipliers"},
        SIZE("kl-blocks", kl_blocks, "autoencoder: residual blocks per resolution"),
        SIZE("latent", latent, "latent channels"),
        SIZE("embed", embed, "width of the embedding"),
        SIZE("image-size", image_size, "CLOOB: side of the images"),
        SIZE("patch", patch, "CLOOB: side of the patches"),
        SIZE("image-width", image_width, "CLOOB: width of the image tower"),
        SIZE("image-layers", image_layers, "CLOOB: layers of the image tower"),
        SIZE("text-positions", text_positions, "CLOOB: tokens of a text"),
        SIZE("text-width", text_width, "CLOOB: width of the text tower"),
        SIZE("text-layers", text_layers, "CLOOB: layers of the text tower"),
        SIZE("vocabulary", vocabulary, "CLOOB: rows of the token embedding"),
        {.name = "autoencoder-scale",
         .kind = OPTION_FLOAT,
         .value = &o.autoencoder_scale,
         .argument = "X",
         .help = "what the U-Net's file says of the latents' deviation"},
        {.name = "unet-only",
         .kind = OPTION_FLAG,
         .value = &o.unet_only,
         .help = "write diffusion.safetensors only"},
        {0},
    };
#undef SIZE
    const struct program program = {"synth-model", "writes a model with synthetic weights",
                                    "[OPTION]... [-o DIR]", options};
    if (options_parse(&program, argc, argv) > 0)
        die_usage("unexpected operand '%s'", argv[1]);
    return o;
}

int main(int argc, char **argv)
{
    struct synth_options o = parse(argc, argv);
    int64_t unet_multipliers[MAX_LEVELS], kl_multipliers[MAX_LEVELS];
    if (parse_multipliers(unet_multipliers, "unet-multipliers", o.unet_multipliers) != 4)
        die_usage("option '--unet-multipliers': four numbers are needed");
    int levels = parse_multipliers(kl_multipliers, "kl-multipliers", o.kl_multipliers);
    struct error e;
    if (make_directories(o.folder, &e) < 0)
        die("cannot make '%s': %s", o.folder, e.text);

    struct plan unet = {0}, kl = {0}, cloob = {0};
    plan_unet(&unet, &o, unet_multipliers);
    write_model(&unet, &o, "diffusion.safetensors");
    if (!o.unet_only) {
        plan_kl(&kl, &o, kl_multipliers, levels);
        write_model(&kl, &o, "autoencoder.safetensors");
        plan_cloob(&cloob, &o);
        write_model(&cloob, &o, "cloob.safetensors");
    }
    free(unet.items);
    free(kl.items);
    free(cloob.items);
    return 0;
}
