#include "common/nets/model.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"

#define SHIPPED    "models/small"
#define INSTALLED  "../share/ccld" /* relative to the installed programs */
#define PIXELS_MAX 16384

#define BEST       "best"            /* in a run's folder, a link to its best checkpoint ... */
#define LATEST     "latest"          /* ... and to its last one */
#define STATE_FILE "state.json"      /* in a checkpoint's folder ... */
#define RAW_FILE   "raw.safetensors" /* ... as last trained, beside their average */

static const struct part_kind {
    unsigned flag;
    const char *stem, *name; /* of the file; for messages */
    enum net net;
} kinds[] = {
    {MODEL_AUTOENCODER, "autoencoder", "autoencoder", NET_KL},
    {MODEL_CLOOB, "cloob", "CLOOB", NET_CLOOB},
    {MODEL_UNET, "diffusion", "U-Net", NET_UNET},
};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static const struct part_kind *kind_of(enum net net)
{
    const struct part_kind *k = kinds;
    while (k < kinds + KINDS - 1 && k->net != net)
        k++;
    return k;
}

static bool has_file(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    bool exists = file_exists(path);
    free(path);
    return exists;
}

/* A file of the network in this folder, malloc'ed, or NULL. */
static char *file_in(const char *folder, const char *stem)
{
    for (int i = 0; weights_extensions[i]; i++) {
        char *name = xasprintf("%s.%s", stem, weights_extensions[i]);
        char *path = path_join(folder, name);
        free(name);
        if (file_exists(path))
            return path;
        free(path);
    }
    return NULL;
}

/* In a folder of a model, a checkpoint or a run. */
static char *file_of_folder(const char *folder, const char *stem)
{
    static const char *const links[] = {BEST, LATEST};
    char *path = file_in(folder, stem);
    for (int i = 0; i < 2 && !path; i++) {
        char *checkpoint = path_join(folder, links[i]);
        path = file_in(checkpoint, stem);
        free(checkpoint);
    }
    return path;
}

static bool is_run(const char *folder)
{
    return has_file(folder, STATE_FILE) || has_file(folder, LATEST) || has_file(folder, BEST);
}

/* The default model's folder, or NULL with the reason. *builtin: it is the one that ships with the
 * programs. */
static char *default_folder(bool *builtin, struct error *e)
{
    const char *named = getenv("CCLD_MODEL");
    *builtin = !named || !*named;
    if (!*builtin)
        return xstrdup(named);
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

char *model_file(const char *path, enum net net, struct error *e)
{
    const struct part_kind *k = kind_of(net);
    if (!folder_exists(path))
        return xstrdup(path);
    char *file = file_of_folder(path, k->stem);
    if (!file)
        say_missing(e, path, k->stem);
    return file;
}

char *model_only_file(const char *path, struct error *e)
{
    char *only = NULL, *found = NULL;
    if (!folder_exists(path))
        return xstrdup(path);
    for (int i = 0; i < KINDS; i++) {
        found = file_of_folder(path, kinds[i].stem);
        if (found && only) {
            error_set(e, "'%s' has several networks: name a file, such as '%s'", path, only);
            free(found);
            free(only);
            return NULL;
        }
        only = found ? found : only;
    }
    if (!only)
        error_set(e, "'%s' is a folder without a network's weights", path);
    return only;
}

/* The raw weights beside the averaged ones of a checkpoint of ours, else path. Consumes path. */
static char *raw_of(char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? xasprintf("%.*s", (int)(slash - path), path) : xstrdup(".");
    if (has_file(folder, STATE_FILE) && has_file(folder, RAW_FILE)) {
        free(path);
        path = path_join(folder, RAW_FILE);
    }
    free(folder);
    return path;
}

/* Networks that a run does not train come from the default model. */
static char *find_part(const struct model_paths *p, const char *file, const struct part_kind *k,
                       bool *builtin, struct error *e)
{
    *builtin = false;
    if (file)
        return model_file(file, k->net, e);
    bool named = p->model && *p->model;
    char *path = named ? file_of_folder(p->model, k->stem) : NULL;
    if (path)
        return path;
    char *folder = named && !is_run(p->model) ? xstrdup(p->model) : default_folder(builtin, e);
    if (!folder)
        return NULL;
    path = file_of_folder(folder, k->stem);
    if (!path && file_exists(folder) && !folder_exists(folder))
        error_set(e,
                  "model folder '%s' is a file: --checkpoint, --autoencoder and --cloob name files",
                  folder);
    else if (!path && !file_exists(folder))
        error_set(e, "cannot open model folder '%s': no such folder", folder);
    else if (!path)
        say_missing(e, folder, k->stem);
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
                     const struct part_kind *k, struct error *e)
{
    part->path = find_part(p, file, k, &part->builtin, e);
    if (!part->path)
        return -1;
    if (p->pick == PICK_RAW)
        part->path = raw_of(part->path);
    struct weights *w = NULL;
    if (weights_open(&w, part->path, e) != 0)
        return error_prefix(e, "cannot read '%s'", part->path);
    if (names_resolve(&part->names, w, k->net, p->pick, e) != 0) {
        weights_close(w);
        return error_prefix(e, "cannot use '%s'", part->path);
    }
    part->weights = w;
    note("%s: '%s', %s, %s", k->stem, part->path, weights_format(w), part->names.description);
    return 0;
}

/* Says which networks are the built-in model's: nobody has asked for it. */
static void announce_builtin(const struct model_part *const parts[KINDS], unsigned which)
{
    char list[64] = "";
    int count = 0, wanted = 0;
    for (int i = 0; i < KINDS; i++) {
        wanted += (which & kinds[i].flag) != 0;
        if (!parts[i]->builtin)
            continue;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", count++ > 0 ? " and " : "",
                 kinds[i].name);
    }
    if (count > 0)
        inform("using the %s%sbuilt-in 64x64 shapes model; -m DIR for another",
               count < wanted ? list : "", count < wanted ? " of the " : "");
}

int model_find(struct model **out, const struct model_paths *p, unsigned which, struct error *e)
{
    struct model *m = xcalloc(1, sizeof *m);
    struct model_part *const parts[] = {&m->autoencoder_part, &m->cloob_part, &m->unet_part};
    const char *const files[] = {p->autoencoder, p->cloob, p->checkpoint};
    for (int i = 0; i < KINDS; i++) {
        if ((which & kinds[i].flag) && part_open(parts[i], p, files[i], &kinds[i], e) != 0) {
            model_close(m);
            return -1;
        }
    }
    announce_builtin((const struct model_part *const *)parts, which);
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

/* A number of the file's metadata, or `otherwise` if it is missing or not from least to most. */
static double number_in_metadata(const struct model_part *part, const char *key, double least,
                                 double most, double otherwise)
{
    const char *text = part->weights ? weights_metadata(part->weights, key) : NULL;
    char *end;
    double number = text ? strtod(text, &end) : 0;
    bool valid = text && end != text && !*end && number >= least && number <= most;
    return valid ? number : otherwise;
}

double model_embed_noise(const struct model_part *part)
{
    return number_in_metadata(part, "embed_noise", 0, DBL_MAX, 0);
}

double model_guidance_start(const struct model_part *part)
{
    return number_in_metadata(part, "guidance_start", 0, 1, 1);
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

int model_part_check(const struct model_part *part, const struct shard_model *store,
                     struct error *e)
{
    char hash[33], encoder[ENCODER_HASH_SIZE];
    names_hash(hash, &part->names);
    names_encoder_hash(encoder, &part->names);
    if (strcmp(hash, store->hash) == 0 || (*encoder && strcmp(encoder, store->encoder) == 0))
        return 0;
    return error_set(e, "the data were not encoded with '%s' (%s) but with '%s' (%s)", part->path,
                     hash, store->name, store->hash);
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
