#include "tests/support/golden.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "kernels/device.h"
#include "tests/support/subject.h"
#include "tests/support/synth_nets.h"
#include "tests/support/tap.h"

const char *golden_text(const struct golden *g, const char *key)
{
    const char *value = weights_metadata(g->file, key);
    if (!value)
        die("'%s' has no metadata '%s'", g->name, key);
    return value;
}

int64_t golden_int(const struct golden *g, const char *key)
{
    return strtoll(golden_text(g, key), NULL, 10);
}

double golden_double(const struct golden *g, const char *key)
{
    return strtod(golden_text(g, key), NULL);
}

static int list(const struct golden *g, int64_t *out, int max, const char *key)
{
    int n = 0;
    for (const char *c = golden_text(g, key); n < max && *c; c++) {
        char *end;
        out[n++] = strtoll(c, &end, 10);
        if (!*end)
            break;
        c = end;
    }
    return n;
}

static double json_number(const struct golden *g, const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(value))
        die("'%s': no number '%s' in its config", g->name, key);
    return value->valuedouble;
}

double golden_config(const struct golden *g, const char *key)
{
    cJSON *config = cJSON_Parse(golden_text(g, "config"));
    double value = json_number(g, config, key);
    cJSON_Delete(config);
    return value;
}

const struct weight *golden_find(const struct golden *g, const char *name)
{
    const struct weight *w = weights_find(g->file, name);
    if (!w)
        die("'%s' has no tensor '%s'", g->name, name);
    return w;
}

float *golden_read(const struct golden *g, const char *name)
{
    const struct weight *w = golden_find(g, name);
    float *host = xmalloc((size_t)weight_count(w) * sizeof *host);
    weight_to_f32(w, host);
    return host;
}

struct tensor *golden_input(const struct golden *g, struct device *d, const char *name)
{
    const struct weight *w = golden_find(g, name);
    float *host = golden_read(g, name);
    struct tensor *t = tensor_from_f32(d, w->ndim, w->shape, host);
    free(host);
    return t;
}

void golden_check(const struct golden *g, struct tensor *ours, const char *name, double tolerance)
{
    const struct weight *w = golden_find(g, name);
    size_t n = (size_t)weight_count(w);
    bool shape = (size_t)tensor_count(ours) == n && ours->ndim == w->ndim &&
                 !memcmp(ours->shape, w->shape, (size_t)w->ndim * sizeof *w->shape);
    double error = INFINITY;
    if (shape) {
        float *host = xmalloc(n * sizeof *host), *theirs = golden_read(g, name);
        tensor_to_f32(ours, host);
        error = relative_l2(host, theirs, n);
        free(host);
        free(theirs);
    }
    tap_ok(shape && error <= tolerance, "%s: %s on %s: relative L2 error %.2g (<= %.0e)", g->name,
           name, subject_name(ours->device), error, tolerance);
    tensor_release(ours);
}

static void unet_of(struct golden *g)
{
    bool training = strncmp(g->name, "train", 5) == 0;
    struct unet_config c = {
        .latent_channels = training ? 4 : golden_find(g, "in.x")->shape[1],
        .embed_width = training ? 512 : golden_find(g, "in.cond")->shape[1],
        .base_channels = golden_int(g, "base_channels"),
        .cond_width = UNET_COND_WIDTH,
        .autoencoder_scale = 1,
    };
    if (list(g, c.multipliers, UNET_LEVELS, "channel_multipliers") != UNET_LEVELS)
        die("'%s' must have four channel multipliers", g->name);
    unet_architecture(&g->architecture, &c);
}

static void kl_of(struct golden *g)
{
    struct kl_config c = {
        .latent_channels = golden_int(g, "embed_dim"),
        .z_channels = golden_int(g, "z_channels"),
        .base_channels = golden_int(g, "ch"),
        .blocks = golden_int(g, "num_res_blocks"),
    };
    c.levels = list(g, c.multipliers, KL_LEVELS_MAX, "ch_mult");
    kl_architecture(&g->architecture, &c);
}

static void cloob_of(struct golden *g)
{
    cJSON *config = cJSON_Parse(golden_text(g, "config"));
    const cJSON *image = cJSON_GetObjectItem(config, "image_encoder");
    const cJSON *text = cJSON_GetObjectItem(config, "text_encoder");
    struct cloob_config c = {
        .embed_width = (int64_t)json_number(g, config, "d_embed"),
        .image_size = (int64_t)json_number(g, image, "image_size"),
        .patch_size = (int64_t)json_number(g, image, "patch_size"),
        .image_width = (int64_t)json_number(g, image, "d_model"),
        .image_layers = (int64_t)json_number(g, image, "n_layers"),
        .context = (int64_t)json_number(g, text, "text_size"),
        .vocabulary = (int64_t)json_number(g, text, "vocab_size"),
        .text_width = (int64_t)json_number(g, text, "d_model"),
        .text_layers = (int64_t)json_number(g, text, "n_layers"),
    };
    cJSON_Delete(config);
    cloob_architecture(&g->architecture, &c);
}

bool golden_open(struct golden *g, const char *folder, const char *name)
{
    *g = (struct golden){.name = xasprintf("%s.safetensors", name)};
    char *path = path_join(folder, g->name);
    struct error e;
    bool found = file_exists(path);
    if (!found)
        tap_skip("not in this folder", "%s", g->name);
    else if (weights_open(&g->file, path, &e) != 0)
        found = tap_ok(false, "%s: %s", g->name, e.text);
    free(path);
    if (!found) {
        free(g->name);
        return false;
    }
    float gain = 1;
    if (strncmp(g->name, "train", 5) == 0 || strncmp(g->name, "unet", 4) == 0) {
        g->net = NET_UNET;
        gain = (float)atof(golden_text(g, "gain"));
        unet_of(g);
    } else if (strncmp(g->name, "kl", 2) == 0) {
        g->net = NET_KL;
        kl_of(g);
    } else {
        g->net = NET_CLOOB;
        cloob_of(g);
    }
    synth_named_weights(&g->names, &g->memory, &g->architecture, g->net, DTYPE_F32,
                        (uint64_t)golden_int(g, "seed"), gain);
    for (int i = 0; i < g->names.count; i++)
        g->elements += weight_count(&g->names.items[i]);
    return true;
}

void golden_close(struct golden *g)
{
    names_release(&g->names);
    free(g->memory);
    architecture_release(&g->architecture);
    weights_close(g->file);
    free(g->name);
}
