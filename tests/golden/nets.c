/* The three networks against the reference: weights by formula, inputs and outputs from the golden
 * files. The small networks run on the plain kernels too. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "kernels/tape.h"
#include "tests/support/synth_nets.h"
#include "tests/support/tap.h"

#define TOLERANCE_REF  1e-5 /* float32 of another order of summation */
#define TOLERANCE_CPU  1e-4 /* with Winograd */
#define LARGE_ELEMENTS 50000000

static struct weights *golden;
static const char *golden_name;

static const char *metadata(const char *key)
{
    const char *value = weights_metadata(golden, key);
    if (!value)
        die("'%s' has no metadata '%s'", golden_name, key);
    return value;
}

static int64_t metadata_int(const char *key)
{
    return strtoll(metadata(key), NULL, 10);
}

static int metadata_list(int64_t *out, int max, const char *key)
{
    int n = 0;
    for (const char *c = metadata(key); n < max && *c; c++) {
        char *end;
        out[n++] = strtoll(c, &end, 10);
        if (!*end)
            break;
        c = end;
    }
    return n;
}

static const struct weight *find(const char *name)
{
    const struct weight *w = weights_find(golden, name);
    if (!w)
        die("'%s' has no tensor '%s'", golden_name, name);
    return w;
}

static struct tensor *input(struct device *d, const char *name)
{
    const struct weight *w = find(name);
    float *host = xmalloc((size_t)weight_count(w) * sizeof *host);
    weight_to_f32(w, host);
    struct tensor *t = tensor_from_f32(d, w->ndim, w->shape, host);
    free(host);
    return t;
}

/* Compares with tensor `name` and releases t. */
static void check(const struct device *d, struct tensor *t, const char *name)
{
    const struct weight *w = find(name);
    size_t n = (size_t)weight_count(w);
    double tolerance = strcmp(d->backend->name, "ref") ? TOLERANCE_CPU : TOLERANCE_REF;
    bool shape = (size_t)tensor_count(t) == n && t->ndim == w->ndim &&
                 !memcmp(t->shape, w->shape, (size_t)t->ndim * sizeof *t->shape);
    double error = INFINITY;
    if (shape) {
        float *ours = xmalloc(n * sizeof *ours), *theirs = xmalloc(n * sizeof *theirs);
        tensor_to_f32(t, ours);
        weight_to_f32(w, theirs);
        error = relative_l2(ours, theirs, n);
        free(ours);
        free(theirs);
    }
    tap_ok(shape && error <= tolerance, "%s: %s on %s: relative L2 error %.2g (<= %.0e)",
           golden_name, name, d->backend->name, error, tolerance);
    tensor_release(t);
}

static void check_unet(struct tape *t, const struct named_weights *names)
{
    struct unet *u;
    struct error e;
    if (!tap_ok(!unet_load(&u, names, t->device, &e), "%s: network loads", golden_name)) {
        tap_diag("%s", e.text);
        return;
    }
    struct tensor *x = input(t->device, "in.x"), *time = input(t->device, "in.t");
    struct tensor *embed = input(t->device, "in.cond");
    check(t->device, unet_forward(t, u, x, time, embed), "out.v");
    tensor_release(x);
    tensor_release(time);
    tensor_release(embed);
    unet_free(u);
}

static void check_kl(struct tape *t, const struct named_weights *names)
{
    struct kl *k;
    struct error e;
    if (!tap_ok(!kl_load(&k, names, t->device, &e), "%s: network loads", golden_name)) {
        tap_diag("%s", e.text);
        return;
    }
    struct tensor *image = input(t->device, "in.image"), *z = input(t->device, "in.z");
    check(t->device, kl_encode(t, k, image), "out.moments");
    check(t->device, kl_decode(t, k, z), "out.decoded");
    tensor_release(image);
    tensor_release(z);
    kl_free(k);
}

static void check_cloob(struct tape *t, const struct named_weights *names)
{
    struct cloob *c;
    struct error e;
    if (!tap_ok(!cloob_load(&c, names, t->device, &e), "%s: network loads", golden_name)) {
        tap_diag("%s", e.text);
        return;
    }
    struct tensor *rgb = input(t->device, "in.rgb");
    check(t->device, cloob_image(t, c, rgb), "out.image_embed");
    tensor_release(rgb);
    const struct weight *w = find("in.tokens");
    int32_t *tokens = xmalloc(weight_bytes(w));
    weight_copy(w, tokens);
    check(t->device, cloob_text(t, c, tokens, w->shape[0]), "out.text_embed");
    free(tokens);
    cloob_free(c);
}

static int64_t json_int(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(value))
        die("'%s': its config has no number '%s'", golden_name, key);
    return (int64_t)value->valuedouble;
}

static enum net plan_net(struct net_plan *p, float *gain)
{
    struct net_sizes s = {0};
    if (!strncmp(golden_name, "unet", 4)) {
        s.unet_base = metadata_int("base_channels");
        if (metadata_list(s.unet_multipliers, 4, "channel_multipliers") != 4)
            die("'%s': four channel multipliers are expected", golden_name);
        *gain = (float)atof(metadata("gain"));
        s.latent = find("in.x")->shape[1];
        s.embed = find("in.cond")->shape[1];
        s.unet_cond = 1024;
        s.autoencoder_scale = 1;
        plan_unet(p, &s);
        return NET_UNET;
    }
    if (!strncmp(golden_name, "kl", 2)) {
        s.kl_channels = metadata_int("ch");
        s.kl_levels = metadata_list(s.kl_multipliers, 8, "ch_mult");
        s.kl_blocks = metadata_int("num_res_blocks");
        s.latent = metadata_int("z_channels");
        plan_kl(p, &s);
        return NET_KL;
    }
    cJSON *config = cJSON_Parse(metadata("config"));
    const cJSON *image = cJSON_GetObjectItem(config, "image_encoder");
    const cJSON *text = cJSON_GetObjectItem(config, "text_encoder");
    s.embed = json_int(config, "d_embed");
    s.image_size = json_int(image, "image_size");
    s.patch = json_int(image, "patch_size");
    s.image_width = json_int(image, "d_model");
    s.image_layers = json_int(image, "n_layers");
    s.text_positions = json_int(text, "text_size");
    s.vocabulary = json_int(text, "vocab_size");
    s.text_width = json_int(text, "d_model");
    s.text_layers = json_int(text, "n_layers");
    cJSON_Delete(config);
    plan_cloob(p, &s);
    return NET_CLOOB;
}

static void check_file(const char *folder, const char *name)
{
    char *file = xasprintf("%s.safetensors", name), *path = path_join(folder, file);
    struct error e;
    golden_name = file;
    if (!file_exists(path)) {
        tap_skip("not in this folder", "%s", file);
    } else if (weights_open(&golden, path, &e)) {
        tap_ok(false, "%s: %s", file, e.text);
    } else {
        struct net_plan plan = {0};
        struct named_weights names;
        float *memory, gain = 1;
        enum net net = plan_net(&plan, &gain);
        synth_named_weights(&names, &memory, &plan, net, (uint64_t)metadata_int("seed"), gain);
        int64_t elements = 0;
        for (int i = 0; i < names.count; i++)
            elements += weight_count(&names.items[i]);
        static const char *const devices[] = {"cpu", "ref"};
        for (int i = 0; i < (elements > LARGE_ELEMENTS ? 1 : 2); i++) {
            struct tape tape;
            struct device *d;
            if (device_open(&d, devices[i], &e))
                die("cannot open device '%s': %s", devices[i], e.text);
            tape_init(&tape, d);
            if (net == NET_UNET)
                check_unet(&tape, &names);
            else if (net == NET_KL)
                check_kl(&tape, &names);
            else
                check_cloob(&tape, &names);
            tap_ok(device_memory(d).in_use == 0, "%s: all tensors were released on %s", file,
                   devices[i]);
            tape_release(&tape);
            device_close(d);
        }
        free(names.items);
        free(memory);
        plan_release(&plan);
        weights_close(golden);
    }
    free(path);
    free(file);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tests/golden/data";
    static const char *const files[] = {"unet_tiny", "unet_mixed", "kl_tiny",  "cloob_tiny",
                                        "kl_full",   "cloob_full", "unet_full"};
    message_init(argv[0]);
    threads_init(0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (argc < 3 || !strcmp(argv[2], files[i]))
            check_file(folder, files[i]);
    return tap_done();
}
