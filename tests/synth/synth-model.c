/* Writes a model folder with weights by the golden files' formula (tests/support/synth.h). It
 * serves to exercise and time every program; the images it makes are noise. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "formats/weights/safetensors.h"
#include "tests/support/synth_nets.h"

struct synth_options {
    const char *folder;
    bool unet_only;
    uint64_t seed;
    const char *unet_multipliers, *kl_multipliers;
    int64_t latent, embed; /* of all networks */
    struct unet_config unet;
    struct kl_config kl;
    struct cloob_config cloob;
};

/* Keeps only one tensor in memory. */
static int append_tensor(struct safetensors_writer *s, const struct tensor_spec *t, uint64_t seed,
                         float gain, struct error *e)
{
    size_t n = (size_t)tensor_spec_count(t);
    float *data = xmalloc(n * sizeof *data);
    synth_fill(data, t, seed, gain);
    int status = safetensors_append(s, data, n * sizeof *data, e);
    free(data);
    return status;
}

static void write_model(const struct architecture *p, const struct synth_options *o, float gain,
                        const char *name)
{
    char *path = path_join(o->folder, name), text[32];
    struct safetensors_writer *s;
    struct error e;
    if (safetensors_create(&s, path, &e) != 0)
        die("cannot write '%s': %s", path, e.text);
    snprintf(text, sizeof text, "%" PRIu64, o->seed);
    safetensors_metadata(s, "synthetic_seed", text);
    double parameters = 0;
    for (int i = 0; i < p->count; i++) {
        const struct tensor_spec *t = &p->items[i];
        safetensors_declare(s, t->name, DTYPE_F32, t->ndim, t->shape);
        parameters += t->kind == TENSOR_SCALAR ? 0 : (double)(size_t)tensor_spec_count(t);
    }
    int status = 0;
    for (int i = 0; i < p->count && status == 0; i++)
        status = append_tensor(s, &p->items[i], o->seed, gain, &e);
    if (status != 0)
        safetensors_abandon(s);
    if (status != 0 || safetensors_commit(s, &e) != 0)
        die("cannot write '%s': %s", path, e.text);
    note("%s: %.0f parameters", path, parameters);
    free(path);
}

static int parse_multipliers(int64_t *m, const char *option, const char *text)
{
    int n = 0;
    for (const char *c = text; n < KL_LEVELS_MAX; c++) {
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
    .latent = 4,
    .embed = 512,
    .unet = {.base_channels = 16, .cond_width = 128, .autoencoder_scale = 8.0779},
    .unet_multipliers = "4,4,4,4",
    .kl = {.base_channels = 32, .blocks = 1},
    .kl_multipliers = "1,1,2,2",
    .cloob = {.image_size = 224,
              .patch_size = 32,
              .image_width = 64,
              .image_layers = 2,
              .context = 77,
              .vocabulary = 2048,
              .text_width = 64,
              .text_layers = 2},
};

static struct synth_options parse(int argc, char **argv)
{
    static struct synth_options o;
    static bool full;
    o = tiny;
    /* --full changes the defaults that the other options then override. */
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--full")) {
            o.unet = unet_published;
            o.kl = kl_published;
            o.cloob = cloob_published;
            o.unet_multipliers = "4,4,8,8";
            o.kl_multipliers = "1,2,4,4";
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
         .help = "folder to write, created if needed"},
        {.name = "full",
         .kind = OPTION_FLAG,
         .value = &full,
         .help = "sizes of the published models (5.6 GB)"},
        {.name = "seed",
         .kind = OPTION_SEED,
         .value = &o.seed,
         .argument = "N",
         .help = "seed of the weights"},
        SIZE("unet-base", unet.base_channels, "U-Net: base channels"),
        {.name = "unet-multipliers",
         .kind = OPTION_STRING,
         .value = &o.unet_multipliers,
         .argument = "LIST",
         .help = "U-Net: channel multipliers, one per resolution"},
        SIZE("unet-cond", unet.cond_width, "U-Net: width of the conditioning vector"),
        SIZE("kl-channels", kl.base_channels, "autoencoder: base channels"),
        {.name = "kl-multipliers",
         .kind = OPTION_STRING,
         .value = &o.kl_multipliers,
         .argument = "LIST",
         .help = "autoencoder: channel multipliers"},
        SIZE("kl-blocks", kl.blocks, "autoencoder: residual blocks per resolution"),
        SIZE("latent", latent, "latent channels"),
        SIZE("embed", embed, "width of the embedding"),
        SIZE("image-size", cloob.image_size, "CLOOB: image side in pixels"),
        SIZE("patch", cloob.patch_size, "CLOOB: patch side in pixels"),
        SIZE("image-width", cloob.image_width, "CLOOB: width of the image tower"),
        SIZE("image-layers", cloob.image_layers, "CLOOB: layers in the image tower"),
        SIZE("text-positions", cloob.context, "CLOOB: tokens per text"),
        SIZE("text-width", cloob.text_width, "CLOOB: width of the text tower"),
        SIZE("text-layers", cloob.text_layers, "CLOOB: layers in the text tower"),
        SIZE("vocabulary", cloob.vocabulary, "CLOOB: rows in the token embedding"),
        {.name = "autoencoder-scale",
         .kind = OPTION_FLOAT,
         .value = &o.unet.autoencoder_scale,
         .argument = "X",
         .help = "autoencoder_scale in the U-Net's file"},
        {.name = "unet-only",
         .kind = OPTION_FLAG,
         .value = &o.unet_only,
         .help = "write diffusion.safetensors only"},
        {0},
    };
#undef SIZE
    const struct program program = {.name = "synth-model",
                                    .summary = "writes a model with synthetic weights",
                                    .usage = "[OPTION]... [-o DIR]",
                                    .options = options};
    if (options_parse(&program, argc, argv) > 0)
        die_usage("unexpected operand '%s'", argv[1]);
    return o;
}

int main(int argc, char **argv)
{
    struct synth_options o = parse(argc, argv);
    int64_t multipliers[KL_LEVELS_MAX];
    if (parse_multipliers(multipliers, "unet-multipliers", o.unet_multipliers) != UNET_LEVELS)
        die_usage("option '--unet-multipliers' needs four numbers");
    memcpy(o.unet.multipliers, multipliers, sizeof o.unet.multipliers);
    o.kl.levels = parse_multipliers(o.kl.multipliers, "kl-multipliers", o.kl_multipliers);
    o.unet.latent_channels = o.kl.latent_channels = o.latent;
    o.unet.embed_width = o.cloob.embed_width = o.embed;
    struct error e;
    if (unet_config_check(&o.unet, &e) != 0)
        die_usage("%s", e.text);
    if (o.cloob.image_size % o.cloob.patch_size)
        die_usage("the image size must be a multiple of the patch size");
    if (make_directories(o.folder, &e) != 0)
        die("cannot make '%s': %s", o.folder, e.text);

    struct architecture unet = {0}, kl = {0}, cloob = {0};
    unet_architecture(&unet, &o.unet);
    write_model(&unet, &o, SYNTH_UNET_GAIN, "diffusion.safetensors");
    if (!o.unet_only) {
        kl_architecture(&kl, &o.kl);
        write_model(&kl, &o, 1, "autoencoder.safetensors");
        cloob_architecture(&cloob, &o.cloob);
        write_model(&cloob, &o, 1, "cloob.safetensors");
    }
    architecture_release(&unet);
    architecture_release(&kl);
    architecture_release(&cloob);
    return 0;
}
