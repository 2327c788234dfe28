#include "common/nets/network.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/message.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/patch_discriminator.h"
#include "common/nets/unet.h"
#include "formats/weights/safetensors.h"
#include "tests/support/synth_nets.h"
#include "tests/support/tap.h"

/* The file under test: safetensors whose elements count up from `first`. */
struct file {
    struct safetensors_writer *writer;
    uint8_t *blob;
    float *data;
    size_t count, capacity;
    struct weights *w;
};

static void add_tensor(struct file *f, const char *name, int ndim, const int64_t *shape,
                       float first)
{
    size_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= (size_t)shape[i];
    if (!f->writer)
        f->writer = safetensors_create_memory();
    safetensors_declare(f->writer, name, DTYPE_F32, ndim, shape);
    if (f->count + n > f->capacity) {
        f->capacity = 2 * (f->count + n);
        f->data = xrealloc(f->data, f->capacity * sizeof *f->data);
    }
    for (size_t i = 0; i < n; i++)
        f->data[f->count++] = first + (float)i;
}
#define ADD(f, name, first, ...)                                                                   \
    add_tensor(f, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                 \
               (const int64_t[]){__VA_ARGS__}, first)

static struct weights *finish(struct file *f)
{
    struct error e;
    size_t size;
    CHECK(safetensors_append(f->writer, f->data, f->count * sizeof *f->data, &e) == 0);
    CHECK(safetensors_take(f->writer, &f->blob, &size, &e) == 0);
    CHECK(weights_open_memory(&f->w, f->blob, size, &e) == 0);
    return f->w;
}

static void release(struct file *f)
{
    weights_close(f->w);
    free(f->blob);
    free(f->data);
}

static float first_of(const struct named_weights *n, const char *name)
{
    const struct weight *t = names_find(n, name);
    if (!t)
        return -1;
    float *values = xmalloc((size_t)weight_count(t) * sizeof *values);
    weight_to_f32(t, values);
    float first = values[0];
    free(values);
    return first;
}

static void lightning(void)
{
    struct file f = {0};
    struct named_weights n;
    struct error e;
    double scale;
    enum net net;
    ADD(&f, "model.net.0.main.0.weight", 10, 8, 20, 3, 3);
    ADD(&f, "model_ema.net.0.main.0.weight", 20, 8, 20, 3, 3);
    ADD(&f, "model.autoencoder_scale", 8.0625f, 1);
    ADD(&f, "model_ema.autoencoder_scale", 8.0625f, 1);
    ADD(&f, "model.mapping.0.main.0.weight", 1, 2, 2);
    ADD(&f, "model_ema.mapping.0.main.0.weight", 2, 2, 2);
    ADD(&f, "other.net.0.main.0.weight", 30, 1);
    ADD(&f, "model_ema.loss", 30, 1);
    struct weights *w = finish(&f);
    tap_ok(names_detect(&net, w, &e) == 0 && net == NET_UNET, "a Lightning U-Net is detected");
    bool ok = names_resolve(&n, w, NET_UNET, PICK_EMA, &e) == 0;
    tap_ok(ok && n.ema && n.count == 3 && first_of(&n, "net.0.main.0.weight") == 20 &&
               first_of(&n, "mapping.0.main.0.weight") == 2 && strstr(n.description, "EMA"),
           "EMA weights: %s", n.description);
    tap_ok(names_scalar(&n, "autoencoder_scale", &scale) && scale == 8.0625 &&
               !names_scalar(&n, "nothing", &scale) &&
               !names_scalar(&n, "net.0.main.0.weight", &scale),
           "autoencoder_scale");
    names_release(&n);
    ok = names_resolve(&n, w, NET_UNET, PICK_RAW, &e) == 0;
    tap_ok(ok && !n.ema && first_of(&n, "net.0.main.0.weight") == 10, "raw weights: %s",
           n.description);
    const struct weight *t;
    tap_ok(names_get(&t, &n, "net.0.main.0.weight", 4, (int64_t[]){-1, 20, 3, 3}, &e) == 0 &&
               names_get(&t, &n, "net.0.main.0.weight", 4, (int64_t[]){8, 4, 3, 3}, &e) == -1 &&
               strstr(e.text, "8x20x3x3") && strstr(e.text, "8x4x3x3"),
           "a wrong shape: %s", e.text);
    tap_ok(names_get(&t, &n, "net.1.main.0.weight", 0, NULL, &e) == -1 &&
               strstr(e.text, "'net.1.main.0.weight' is missing"),
           "a missing tensor: %s", e.text);
    names_release(&n);
    tap_ok(names_resolve(&n, w, NET_KL, PICK_EMA, &e) == -1 && strstr(e.text, "U-Net"),
           "not an autoencoder: %s", e.text);
    release(&f);

    struct file only = {0};
    ADD(&only, "model_ema.net.0.main.0.weight", 20, 8, 20, 3, 3);
    w = finish(&only);
    tap_ok(names_resolve(&n, w, NET_UNET, PICK_RAW, &e) == -1 && strstr(e.text, "EMA"),
           "raw weights requested from a file of EMA weights: %s", e.text);
    release(&only);

    struct file bare = {0};
    ADD(&bare, "net.0.main.0.weight", 5, 8, 20, 3, 3);
    w = finish(&bare);
    tap_ok(names_resolve(&n, w, NET_UNET, PICK_EMA, &e) == 0 && !n.ema && n.count == 1, "%s",
           n.description);
    names_release(&n);
    release(&bare);

    struct file none = {0};
    ADD(&none, "bert.encoder.weight", 5, 8);
    w = finish(&none);
    tap_ok(names_detect(&net, w, &e) == -1 && names_resolve(&n, w, NET_UNET, PICK_EMA, &e) == -1,
           "another network: %s", e.text);
    release(&none);
}

/* Our name and diffusers' name of tensors in an autoencoder with three levels of two blocks. */
static const char *const diffusers[][2] = {
    {"encoder.conv_in.weight", "encoder.conv_in.weight"},
    {"encoder.down.0.block.0.conv1.weight", "encoder.down_blocks.0.resnets.0.conv1.weight"},
    {"encoder.down.1.block.1.norm2.bias", "encoder.down_blocks.1.resnets.1.norm2.bias"},
    {"encoder.down.1.block.0.nin_shortcut.weight",
     "encoder.down_blocks.1.resnets.0.conv_shortcut.weight"},
    {"encoder.down.1.downsample.conv.weight", "encoder.down_blocks.1.downsamplers.0.conv.weight"},
    {"encoder.mid.block_1.norm1.weight", "encoder.mid_block.resnets.0.norm1.weight"},
    {"encoder.mid.block_2.conv2.bias", "encoder.mid_block.resnets.1.conv2.bias"},
    {"encoder.mid.attn_1.norm.weight", "encoder.mid_block.attentions.0.group_norm.weight"},
    {"encoder.norm_out.weight", "encoder.conv_norm_out.weight"},
    {"encoder.conv_out.bias", "encoder.conv_out.bias"},
    {"decoder.up.2.block.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"},
    {"decoder.up.1.block.2.conv1.weight", "decoder.up_blocks.1.resnets.2.conv1.weight"},
    {"decoder.up.0.block.0.conv1.weight", "decoder.up_blocks.2.resnets.0.conv1.weight"},
    {"decoder.up.0.block.1.nin_shortcut.bias", "decoder.up_blocks.2.resnets.1.conv_shortcut.bias"},
    {"decoder.up.2.upsample.conv.bias", "decoder.up_blocks.0.upsamplers.0.conv.bias"},
    {"decoder.mid.block_2.norm1.bias", "decoder.mid_block.resnets.1.norm1.bias"},
    {"decoder.norm_out.bias", "decoder.conv_norm_out.bias"},
    {"quant_conv.weight", "quant_conv.weight"},
    {"post_quant_conv.bias", "post_quant_conv.bias"},
};
static const char *const attention_names[][3] = {
    /* ours, new, old */
    {"q", "to_q", "query"},
    {"k", "to_k", "key"},
    {"v", "to_v", "value"},
    {"proj_out", "to_out.0", "proj_attn"},
};
#define PAIRS (sizeof diffusers / sizeof *diffusers)

static void autoencoders(void)
{
    char hash[4][33];
    for (int variant = 0; variant < 4; variant++) { /* ours, first stage, diffusers new, old */
        struct file f = {0};
        struct named_weights n;
        struct error e = {""};
        char name[160];
        double scale;
        const char *prefix = variant == 1 ? "first_stage_model." : "";
        for (size_t i = 0; i < PAIRS; i++) { /* the order differs between files */
            size_t at = variant % 2 ? PAIRS - 1 - i : i;
            snprintf(name, sizeof name, "%s%s", prefix, diffusers[at][variant > 1]);
            ADD(&f, name, (float)(100 * at), 2, 3);
        }
        for (size_t i = 0; i < 4; i++) {
            for (int bias = 0; bias < 2; bias++) {
                snprintf(name, sizeof name, "%sdecoder.%s.%s.%s", prefix,
                         variant > 1 ? "mid_block.attentions.0" : "mid.attn_1",
                         attention_names[i][variant > 1 ? variant - 1 : 0],
                         bias ? "bias" : "weight");
                if (bias)
                    ADD(&f, name, (float)(5000 + i), 4);
                else if (variant > 1)
                    ADD(&f, name, (float)(4000 + 100 * i), 4, 4);
                else
                    ADD(&f, name, (float)(4000 + 100 * i), 4, 4, 1, 1);
            }
        }
        ADD(&f, "loss.discriminator.main.0.weight", 1, 1);
        ADD(&f, "model.diffusion_model.out.2.bias", 1, 1);
        if (variant == 1)
            add_tensor(&f, "scale_factor", 0, NULL, 0.1875f);
        struct weights *w = finish(&f);
        enum net net;
        bool ok = names_detect(&net, w, &e) == 0 && net == NET_KL &&
                  names_resolve(&n, w, NET_KL, PICK_EMA, &e) == 0;
        if (!tap_ok(ok && n.count == (int)PAIRS + 8, "%d tensors: %s%s", ok ? n.count : 0,
                    ok ? n.description : "", ok ? "" : e.text))
            return;
        int wrong = 0;
        for (size_t i = 0; i < PAIRS; i++)
            wrong += first_of(&n, diffusers[i][0]) != (float)(100 * i);
        for (size_t i = 0; i < 4; i++) {
            snprintf(name, sizeof name, "decoder.mid.attn_1.%s.weight", attention_names[i][0]);
            const struct weight *t = names_find(&n, name);
            wrong += first_of(&n, name) != (float)(4000 + 100 * i) || t->ndim != 4 ||
                     t->shape[3] != 1 || !t->contiguous;
        }
        tap_ok(wrong == 0 && n.foreign == (variant > 1), "all have our names and shapes");
        tap_ok(names_scalar(&n, "scale_factor", &scale) == (variant == 1) &&
                   (variant != 1 || scale == 0.1875),
               "scale_factor");
        names_hash(hash[variant], &n);
        names_release(&n);
        release(&f);
    }
    tap_ok(strcmp(hash[0], hash[1]) == 0 && strcmp(hash[0], hash[2]) == 0 &&
               strcmp(hash[0], hash[3]) == 0 && strlen(hash[0]) == 32,
           "names and order do not change the hash: %s", hash[0]);
}

/* LPIPS under the names of taming-transformers, the lpips package and torchvision, and in an
 * autoencoder checkpoint, beside its discriminator. */
static void losses(void)
{
    static const char *const prefixes[] = {"", "loss.perceptual_loss."};
    struct named_weights n;
    struct error e;
    enum net net;
    for (int i = 0; i < 2; i++) {
        struct file f = {0};
        char name[2][80];
        snprintf(name[0], sizeof name[0], "%snet.slice1.0.weight", prefixes[i]);
        snprintf(name[1], sizeof name[1], "%slin3.model.%d.weight", prefixes[i], i);
        ADD(&f, name[0], 10, 64, 3, 3, 3);
        ADD(&f, name[1], 40, 1, 512, 1, 1);
        snprintf(name[0], sizeof name[0], "%snet.slice5.28.bias", prefixes[i]);
        snprintf(name[1], sizeof name[1], "%sscaling_layer.shift", prefixes[i]);
        ADD(&f, name[0], 50, 512);
        ADD(&f, name[1], 60, 3);
        ADD(&f, "lins.3.model.1.weight", 70, 1, 512, 1, 1);
        struct weights *w = finish(&f);
        bool ok = names_resolve(&n, w, NET_LPIPS, PICK_RAW, &e) == 0;
        tap_ok(ok && n.count == 3 && first_of(&n, "features.0.weight") == 10 &&
                   first_of(&n, "features.28.bias") == 50 &&
                   first_of(&n, "lin3.model.1.weight") == 40,
               "%s", ok ? n.description : e.text);
        if (ok)
            names_release(&n);
        release(&f);
    }
    struct file both = {0};
    ADD(&both, "encoder.down.0.block.0.conv1.weight", 1, 32, 32, 3, 3);
    ADD(&both, "loss.discriminator.main.0.weight", 2, 64, 3, 4, 4);
    ADD(&both, "loss.discriminator.main.3.weight", 3, 128);
    ADD(&both, "loss.discriminator.main.3.running_mean", 4, 128);
    struct weights *w = finish(&both);
    bool first = names_detect(&net, w, &e) == 0 && net == NET_KL;
    bool ok = names_resolve(&n, w, NET_DISCRIMINATOR, PICK_RAW, &e) == 0;
    tap_ok(first && ok && n.count == 2 && first_of(&n, "main.3.weight") == 3,
           "an autoencoder's discriminator, without its running averages");
    if (ok)
        names_release(&n);
    release(&both);
}

static void hash_changes(void)
{
    char hash[4][33];
    for (int i = 0; i < 4; i++) {
        struct file f = {0};
        struct named_weights n;
        struct error e;
        ADD(&f, "net.0.main.0.weight", i == 1 ? 2 : 1, i == 2 ? 3 : 2, i == 2 ? 2 : 3);
        ADD(&f, i == 3 ? "net.0.main.0.bia" : "net.0.main.0.bias", 1, 4);
        struct weights *w = finish(&f);
        CHECK(names_resolve(&n, w, NET_UNET, PICK_EMA, &e) == 0);
        names_hash(hash[i], &n);
        names_release(&n);
        release(&f);
    }
    tap_ok(strcmp(hash[0], hash[1]) && strcmp(hash[0], hash[2]) && strcmp(hash[0], hash[3]),
           "a changed value, shape or name changes the hash");
}

static void haiku(void)
{
    struct file f = {0};
    struct named_weights n;
    struct error e = {""};
#define LAYER "layer_11/self_attention/multi_head_attention/"
    ADD(&f, "params.0.vi_t_image_encoder.class_embed", 1, 6);
    ADD(&f, "params.0.vi_t_image_encoder/embed.w", 2, 2, 2, 3, 6);
    ADD(&f, "params.0.vi_t_image_encoder/pos_embed.w", 3, 5, 6);
    ADD(&f, "params.0.vi_t_image_encoder/proj.w", 4, 6, 4);
    ADD(&f, "params.0.vi_t_image_encoder/layer_0/self_attention/multi_head_attention/query.w", 5, 6,
        6);
    ADD(&f, "params.0.vi_t_image_encoder/" LAYER "linear.b", 6, 6);
    ADD(&f, "params.0.vi_t_image_encoder/layer_11/self_attention/layer_norm.scale", 7, 6);
    ADD(&f, "params.0.vi_t_image_encoder/layer_11/feed_forward/layer_norm.offset", 8, 6);
    ADD(&f, "params.0.vi_t_image_encoder/layer_11/feed_forward/linear_0.w", 9, 6, 24);
    ADD(&f, "params.0.vi_t_image_encoder/~/layer_11/feed_forward/linear_1.b", 10, 6);
    ADD(&f, "params.1.text_encoder/embed.embeddings", 11, 9, 3);
    ADD(&f, "params.1.text_encoder/" LAYER "linear.w", 12, 3, 3);
    ADD(&f, "opt_state.0.vi_t_image_encoder/proj.w", 99, 6, 4);
    static const struct {
        const char *name;
        float first;
        int ndim;
        int64_t shape[4];
    } wanted[] = {
        {"image_encoder.class_embed", 1, 1, {6}},
        {"image_encoder.embed.weight", 2, 4, {6, 3, 2, 2}},
        {"image_encoder.pos_embed.weight", 3, 2, {5, 6}},
        {"image_encoder.proj.weight", 4, 2, {4, 6}},
        {"image_encoder.layers.0.attn.query.weight", 5, 2, {6, 6}},
        {"image_encoder.layers.11.attn.out.bias", 6, 1, {6}},
        {"image_encoder.layers.11.attn.norm.weight", 7, 1, {6}},
        {"image_encoder.layers.11.ff.norm.bias", 8, 1, {6}},
        {"image_encoder.layers.11.ff.linear_0.weight", 9, 2, {24, 6}},
        {"image_encoder.layers.11.ff.linear_1.bias", 10, 1, {6}},
        {"text_encoder.embed.weight", 11, 2, {9, 3}},
        {"text_encoder.layers.11.attn.out.weight", 12, 2, {3, 3}},
    };
    struct weights *w = finish(&f);
    bool ok = names_resolve(&n, w, NET_CLOOB, PICK_EMA, &e) == 0;
    int wrong = 0;
    for (size_t i = 0; ok && i < sizeof wanted / sizeof *wanted; i++) {
        const struct weight *t;
        if (names_get(&t, &n, wanted[i].name, wanted[i].ndim, wanted[i].shape, &e) != 0 ||
            first_of(&n, wanted[i].name) != wanted[i].first) {
            tap_diag("%s: %s", wanted[i].name, e.text);
            wrong++;
        }
    }
    tap_ok(ok && wrong == 0 && n.count == (int)(sizeof wanted / sizeof *wanted) && n.foreign,
           "haiku names and shapes %s", e.text);
    float values[24];
    weight_to_f32(names_find(&n, "image_encoder.proj.weight"), values);
    tap_ok(values[1] == 8 && values[6] == 5, "a matrix is transposed");
    names_release(&n);
    release(&f);
}

/* A PatchGAN discriminator, with this tensor in the place of the first and another beside it. */
static bool first_tensor(const char *type, int bytes, const char *other, float *value,
                         struct error *e)
{
    char json[512];
    int size =
        snprintf(json + 8, sizeof json - 8,
                 "{\"main.0.weight\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[0,%d]},"
                 "\"%s\":{\"dtype\":\"X8\",\"shape\":[3],\"data_offsets\":[%d,%d]}}",
                 type, bytes, other, bytes, bytes + 2);
    uint64_t header = (uint64_t)size;
    memcpy(json, &header, sizeof header);
    memset(json + 8 + size, 0x38, (size_t)bytes + 2);
    struct weights *w;
    struct named_weights n;
    const struct weight *t;
    char hex[33];
    CHECK(weights_open_memory(&w, json, 8 + header + (uint64_t)bytes + 2, e) == 0);
    CHECK(names_resolve(&n, w, NET_DISCRIMINATOR, PICK_EMA, e) == 0);
    bool ok = names_get(&t, &n, "main.0.weight", 1, (int64_t[]){1}, e) == 0;
    if (ok)
        weight_to_f32(t, value);
    names_hash(hex, &n);
    names_release(&n);
    weights_close(w);
    return ok;
}

static void types(void)
{
    static const struct {
        const char *type;
        int bytes;
        const char *other, *reason;
    } refused[] = {
        {"C64", 8, "main.8.bias", "'main.0.weight' is of type C64"},
        {"F4", 1, "main.8.bias", "'main.0.weight' is of type F4"},
        {"F8_E4M3", 1, "main.0.scale_weight", "'main.0.weight' is of type F8_E4M3 with a scale"},
        {"F8_E4M3", 1, "main.0.weight_scale", "F8_E4M3 with a scale"},
        {"I8", 1, "main.0.weight_scale_inv", "I8 with a scale"},
        {"U8", 1, "main.0.weight._scale", "U8 with a scale"},
    };
    struct error e = {""};
    float value = 0;
    tap_ok(first_tensor("F8_E4M3", 1, "main.8.bias", &value, &e) && value == 1,
           "a tensor of eight-bit floats %s", e.text);
    tap_ok(first_tensor("F32", 4, "main.0.weight_scale", &value, &e), "floats beside a scale");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        e.text[0] = 0;
        bool ok = first_tensor(refused[i].type, refused[i].bytes, refused[i].other, &value, &e);
        tap_ok(!ok && strstr(e.text, refused[i].reason), "refused: %s", e.text);
    }
}

/* A file of these tensors, as a header in front of memory that nobody touches. Releases p. */
static void describe(const char *wanted, struct architecture *p, enum net net)
{
    size_t most = (size_t)200 * (size_t)p->count + 100, data = 0, at = 8;
    for (int i = 0; i < p->count; i++)
        data += 4 * (size_t)tensor_spec_count(&p->items[i]);
    size_t size = most + data;
    char *file = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(file != MAP_FAILED);
    size_t offset = 0;
    for (int i = 0; i < p->count; i++) {
        const struct tensor_spec *t = &p->items[i];
        at += (size_t)sprintf(file + at, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? "," : "{",
                              t->name);
        for (int d = 0; d < t->ndim; d++)
            at += (size_t)sprintf(file + at, "%s%" PRId64, d ? "," : "", t->shape[d]);
        size_t bytes = 4 * (size_t)tensor_spec_count(t);
        at += (size_t)sprintf(file + at, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        offset += bytes;
    }
    at += (size_t)sprintf(file + at, "}");
    CHECK(at <= most);
    memset(file + at, ' ', most - at);
    memcpy(file, &(uint64_t){most - 8}, 8);
    struct weights *w;
    struct named_weights n;
    struct error e = {""};
    char line[256] = "";
    enum net found;
    if (weights_open_memory(&w, file, size, &e) == 0) {
        if (names_detect(&found, w, &e) == 0 && found == net &&
            names_resolve(&n, w, net, PICK_EMA, &e) == 0) {
            network_describe(line, sizeof line, &n, &e);
            names_release(&n);
        }
        weights_close(w);
    }
    tap_ok(strcmp(line, wanted) == 0, "%s%s", line, e.text);
    munmap(file, size);
    architecture_release(p);
}

/* The published sizes. */
static void descriptions(void)
{
    struct architecture unet = {0}, kl = {0}, cloob = {0}, discriminator = {0};
    unet_architecture(&unet, &unet_published);
    describe("U-Net, base 192, multipliers 4,4,8,8, 1,174,321,228 parameters", &unet, NET_UNET);
    kl_architecture(&kl, &kl_published);
    describe("KL autoencoder, ch 128, multipliers 1,2,4,4, 2 blocks a level, z 4, "
             "83,653,863 parameters",
             &kl, NET_KL);
    cloob_architecture(&cloob, &cloob_published);
    describe("CLOOB, embed 512, images 224/16 12 layers of 768, text 77 of 49408 tokens 12 layers "
             "of 512, 149,617,664 parameters",
             &cloob, NET_CLOOB);
    patch_discriminator_architecture(&discriminator, 3, 64, 3);
    describe("PatchGAN discriminator, 64 channels, 3 layers, 2,765,633 parameters", &discriminator,
             NET_DISCRIMINATOR);
}

int main(void)
{
    lightning();
    autoencoders();
    hash_changes();
    haiku();
    losses();
    descriptions();
    types();
    return tap_done();
}
