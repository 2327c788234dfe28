#include "common/nets/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"

#define SHIPPED    "models/small"
#define INSTALLED  "../share/ccld" /* relative to the installed programs */
#define PIXELS_MAX 16384

/* The folder of model files, or NULL with the reason. */
static char *model_folder(const struct model_paths *p, struct error *e)
{
    const char *named = p->model ? p->model : getenv("CCLD_MODEL");
    if (named && *named) {
        if (file_exists(named))
            return xstrdup(named);
        error_set(e, "cannot open model folder '%s': no such folder", named);
        return NULL;
    }
    char *shipped = find_beside_program(SHIPPED, INSTALLED);
    if (!shipped)
        error_set(e, "no model: name one with -m DIR or $CCLD_MODEL");
    return shipped;
}

/* "model folder 'x' has no cloob.safetensors (nor .ckpt, .pth ...)" */
static void say_missing(struct error *e, const char *folder, const char *stem)
{
    char others[128] = "";
    for (int i = 1; weights_extensions[i]; i++) {
        size_t used = strlen(others);
        snprintf(others + used, sizeof others - used, "%s.%s", i > 1 ? ", " : "",
                 weights_extensions[i]);
    }
    error_set(e, "model folder '%s' has no %s.%s (nor %s)", folder, stem, weights_extensions[0],
              others);
}

static char *find_part(const struct model_paths *p, const char *file, const char *stem,
                       struct error *e)
{
    if (file)
        return xstrdup(file);
    char *folder = model_folder(p, e);
    if (!folder)
        return NULL;
    char *path = NULL;
    for (int i = 0; weights_extensions[i] && !path; i++) {
        char *name = xasprintf("%s.%s", stem, weights_extensions[i]);
        path = path_join(folder, name);
        free(name);
        if (!file_exists(path)) {
            free(path);
            path = NULL;
        }
    }
    if (!path)
        say_missing(e, folder, stem);
    free(folder);
    return path;
}

static void part_release(struct model_part *part)
{
    if (part->weights)
        names_release(&part->names);
    weights_close(part->weights);
    free(part->path);
    *part = (struct model_part){0};
}

static int part_open(struct model_part *part, const struct model_paths *p, const char *file,
                     const char *stem, enum net net, struct error *e)
{
    part->path = find_part(p, file, stem, e);
    if (!part->path)
        return -1;
    struct weights *w = NULL;
    if (weights_open(&w, part->path, e) != 0)
        return error_prefix(e, "cannot read '%s'", part->path);
    if (names_resolve(&part->names, w, net, p->pick, e) != 0) {
        weights_close(w);
        return error_prefix(e, "cannot use '%s'", part->path);
    }
    part->weights = w;
    note("%s: '%s', %s, %s", stem, part->path, weights_format(w), part->names.description);
    return 0;
}

int model_find(struct model **out, const struct model_paths *p, unsigned which, struct error *e)
{
    struct model *m = xcalloc(1, sizeof *m);
    int status = 0;
    if (which & MODEL_AUTOENCODER)
        status = part_open(&m->autoencoder_part, p, p->autoencoder, "autoencoder", NET_KL, e);
    if (status == 0 && (which & MODEL_CLOOB))
        status = part_open(&m->cloob_part, p, p->cloob, "cloob", NET_CLOOB, e);
    if (status == 0 && (which & MODEL_UNET))
        status = part_open(&m->unet_part, p, p->checkpoint, "diffusion", NET_UNET, e);
    if (status != 0) {
        model_close(m);
        return -1;
    }
    *out = m;
    return 0;
}

int model_load(struct model *m, struct device *d, struct error *e)
{
    const struct model_part *part = &m->autoencoder_part;
    if (part->weights && kl_load(&m->kl, &part->names, d, e) != 0)
        return error_prefix(e, "cannot use '%s'", part->path);
    part = &m->cloob_part;
    if (part->weights && cloob_load(&m->cloob, &part->names, d, e) != 0)
        return error_prefix(e, "cannot use '%s'", part->path);
    part = &m->unet_part;
    if (part->weights && unet_load(&m->unet, &part->names, d, e) != 0)
        return error_prefix(e, "cannot use '%s'", part->path);
    return 0;
}

int model_open(struct model **out, const struct model_paths *p, unsigned which, struct device *d,
               struct error *e)
{
    if (model_find(out, p, which, e) != 0)
        return -1;
    if (model_load(*out, d, e) == 0)
        return 0;
    model_close(*out);
    return -1;
}

struct size2d model_image_size(const struct model_part *part, struct size2d requested)
{
    if (requested.height != 0 || requested.width != 0)
        return requested;
    const struct size2d usual = {256, 256};
    const char *text = part->weights ? weights_metadata(part->weights, "pixels") : NULL;
    struct size2d size;
    char end;
    if (!text || sscanf(text, "%5dx%5d%c", &size.height, &size.width, &end) != 2 ||
        size.height < 1 || size.width < 1 || size.height > PIXELS_MAX || size.width > PIXELS_MAX)
        return usual;
    return size;
}

double model_embed_noise(const struct model_part *part)
{
    const char *text = part->weights ? weights_metadata(part->weights, "embed_noise") : NULL;
    char *end;
    double noise = text ? strtod(text, &end) : 0;
    return text && end != text && !*end && isfinite(noise) && noise > 0 ? noise : 0;
}

static int check_origin(const struct model *m, const struct model_part *part, const char *key,
                        const char *what, struct error *e)
{
    char recorded[32], hash[ENCODER_HASH_SIZE];
    snprintf(recorded, sizeof recorded, "%s_encoder", key);
    const char *wanted = weights_metadata(m->unet_part.weights, recorded);
    const char *name = weights_metadata(m->unet_part.weights, key);
    if (!wanted || !part->weights)
        return 0;
    names_encoder_hash(hash, &part->names);
    if (!encoder_hashes_differ(wanted, hash))
        return 0;
    return error_set(e,
                     "'%s' was trained with the %s '%s', whose weights differ from those of '%s': "
                     "name the right file with --%s",
                     m->unet_part.path, what, name ? name : "?", part->path, key);
}

int model_check_origin(const struct model *m, struct error *e)
{
    if (check_origin(m, &m->autoencoder_part, "autoencoder", "autoencoder", e) != 0)
        return -1;
    return check_origin(m, &m->cloob_part, "cloob", "CLOOB", e);
}

void model_unload(struct model *m, unsigned which)
{
    if (which & MODEL_AUTOENCODER) {
        kl_free(m->kl);
        m->kl = NULL;
    }
    if (which & MODEL_CLOOB) {
        cloob_free(m->cloob);
        m->cloob = NULL;
    }
    if (which & MODEL_UNET) {
        unet_free(m->unet);
        m->unet = NULL;
    }
}

void model_drop(struct model *m, unsigned which)
{
    model_unload(m, which);
    if (which & MODEL_AUTOENCODER)
        part_release(&m->autoencoder_part);
    if (which & MODEL_CLOOB)
        part_release(&m->cloob_part);
    if (which & MODEL_UNET)
        part_release(&m->unet_part);
}

void model_close(struct model *m)
{
    if (!m)
        return;
    model_drop(m, MODEL_AUTOENCODER | MODEL_CLOOB | MODEL_UNET);
    free(m);
}
