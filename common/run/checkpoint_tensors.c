#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/nets/network.h"
#include "common/run/checkpoint_internal.h"
#include "formats/weights/safetensors.h"

#define ELEMENTS_AT_ONCE (INT64_C(1) << 20)

/* In the order of training_state.files; the last two are the companion's, if there is one. */
enum { FILE_RAW, FILE_EMA, FILE_OPTIMIZER, FILE_COMPANION, FILE_COMPANION_OPTIMIZER };

static const char *const ema_names[] = {
    [NET_UNET] = "diffusion.safetensors",
    [NET_KL] = "autoencoder.safetensors",
    [NET_CLOOB] = "cloob.safetensors",
};

static const char *file_name(enum net net, int file)
{
    static const char *const others[] = {
        [FILE_RAW] = "raw.safetensors",
        [FILE_OPTIMIZER] = "optimizer.safetensors",
        [FILE_COMPANION] = "discriminator.safetensors",
        [FILE_COMPANION_OPTIMIZER] = "discriminator-optimizer.safetensors",
    };
    return file == FILE_EMA ? ema_names[net] : others[file];
}

bool training_state_net(enum net *net, const struct training_state *s)
{
    for (size_t i = 0; i < sizeof ema_names / sizeof *ema_names; i++) {
        *net = (enum net)i;
        if (strcmp(s->files[FILE_EMA].name, ema_names[i]) == 0)
            return true;
    }
    return false;
}

/* An array that a file holds, and the prefix of its tensors' names there. */
struct part {
    const char *prefix;
    enum parameter_array array;
};
#define PARTS_MAX 2

static bool is_optimizer(int file)
{
    return file == FILE_OPTIMIZER || file == FILE_COMPANION_OPTIMIZER;
}

static int parts_of(struct part parts[PARTS_MAX], int file)
{
    if (is_optimizer(file)) {
        parts[0] = (struct part){"m.", ARRAY_M};
        parts[1] = (struct part){"v.", ARRAY_V};
        return 2;
    }
    parts[0] = (struct part){"", file == FILE_EMA ? ARRAY_EMA : ARRAY_WEIGHTS};
    return 1;
}

static int tensors_in(const struct parameters *p, int file)
{
    return is_optimizer(file) ? p->trained_count : p->count;
}

static void print_hash(char hex[CHECKPOINT_HASH_SIZE], XXH3_state_t *state)
{
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    snprintf(hex, CHECKPOINT_HASH_SIZE, "%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
}

static XXH3_state_t *hash_new(void)
{
    XXH3_state_t *state = xallocated(XXH3_createState());
    XXH3_128bits_reset(state);
    return state;
}

static void hash_name(XXH3_state_t *state, const char *name, int ndim, const int64_t *shape)
{
    XXH3_128bits_update(state, name, strlen(name) + 1);
    for (int i = 0; i < ndim; i++)
        XXH3_128bits_update(state, &shape[i], sizeof shape[i]);
}

/* A file that is being written. */
struct writing {
    const struct parameters *parameters;
    struct safetensors_writer *out;
    XXH3_state_t *hash;
    float *scratch; /* NULL if the host reads the arrays in place */
    int64_t bytes;
};

static int append(struct writing *w, const void *data, size_t size, struct error *e)
{
    XXH3_128bits_update(w->hash, data, size);
    w->bytes += (int64_t)size;
    return safetensors_append(w->out, data, size, e);
}

static int append_tensor(struct writing *w, enum parameter_array array, const struct parameter *t,
                         struct error *e)
{
    for (int64_t at = 0; at < t->count; at += ELEMENTS_AT_ONCE) {
        int64_t n = t->count - at < ELEMENTS_AT_ONCE ? t->count - at : ELEMENTS_AT_ONCE;
        const float *data = parameters_read(w->parameters, array, t->offset + at, n, w->scratch);
        if (!all_finite(data, n))
            return error_set(e, "'%s' contains a non-finite value", t->name);
        if (append(w, data, (size_t)n * sizeof *data, e) != 0)
            return -1;
    }
    return 0;
}

/* The networks that made a U-Net's data: see model_check_origin. */
static void declare_origin(struct writing *w, const char *key, const struct shard_model *m)
{
    char *hash = xasprintf("%s_encoder", key);
    if (*m->encoder) {
        safetensors_metadata(w->out, key, m->name);
        safetensors_metadata(w->out, hash, m->encoder);
    }
    free(hash);
}

static void declare_metadata(struct writing *w, const struct training_state *s)
{
    char digits[24], pixels[32];
    snprintf(digits, sizeof digits, "%" PRId64, s->step);
    safetensors_metadata(w->out, "format", "pt"); /* as Python's loaders expect */
    safetensors_metadata(w->out, "step", digits);
    if (s->store.image_height > 0 && s->store.image_width > 0) {
        snprintf(pixels, sizeof pixels, "%dx%d", s->store.image_height, s->store.image_width);
        safetensors_metadata(w->out, "pixels", pixels); /* see model_image_size */
    }
    const char *noise = training_state_option(s, "embed-noise");
    if (noise && strtod(noise, NULL) > 0)
        safetensors_metadata(w->out, "embed_noise", noise); /* see model_embed_noise */
    if (w->parameters->net == NET_UNET) {
        declare_origin(w, "autoencoder", &s->store.autoencoder);
        declare_origin(w, "cloob", &s->store.cloob);
    }
}

static void declare_all(struct writing *w, int file, const struct training_state *s)
{
    struct part parts[PARTS_MAX];
    int count = parts_of(parts, file);
    declare_metadata(w, s);
    for (int p = 0; p < count; p++) {
        for (int i = 0; i < tensors_in(w->parameters, file); i++) {
            const struct parameter *t = &w->parameters->tensors[i];
            char *name = xasprintf("%s%s", parts[p].prefix, t->name);
            safetensors_declare(w->out, name, DTYPE_F32, t->ndim, t->shape);
            hash_name(w->hash, name, t->ndim, t->shape);
            free(name);
        }
    }
    for (int i = 0; !is_optimizer(file) && i < w->parameters->scalar_count; i++) {
        safetensors_declare(w->out, w->parameters->scalars[i].name, DTYPE_F32, 0, NULL);
        hash_name(w->hash, w->parameters->scalars[i].name, 0, NULL);
    }
}

static int append_all(struct writing *w, int file, struct error *e)
{
    struct part parts[PARTS_MAX];
    int count = parts_of(parts, file);
    for (int p = 0; p < count; p++)
        for (int i = 0; i < tensors_in(w->parameters, file); i++)
            if (append_tensor(w, parts[p].array, &w->parameters->tensors[i], e) != 0)
                return -1;
    for (int i = 0; !is_optimizer(file) && i < w->parameters->scalar_count; i++)
        if (append(w, &w->parameters->scalars[i].value, sizeof(float), e) != 0)
            return -1;
    return 0;
}

static int write_file(const char *path, const struct parameters *p, int file,
                      const struct training_state *s, struct checkpoint_file *out, struct error *e)
{
    struct writing w = {.parameters = p};
    if (safetensors_create(&w.out, path, e) != 0)
        return -1;
    w.hash = hash_new();
    w.scratch = p->device->host_memory && !parameters_are_sharded(p)
                    ? NULL
                    : xmalloc((size_t)ELEMENTS_AT_ONCE * sizeof *w.scratch);
    declare_all(&w, file, s);
    int status = append_all(&w, file, e);
    if (status != 0)
        safetensors_abandon(w.out);
    else
        status = safetensors_commit(w.out, e);
    snprintf(out->name, sizeof out->name, "%s", file_name(p->net, file));
    out->bytes = w.bytes;
    print_hash(out->hash, w.hash);
    XXH3_freeState(w.hash);
    free(w.scratch);
    return status;
}

int checkpoint_write_tensors(const char *folder, const struct parameters *p,
                             struct training_state *s, struct error *e)
{
    s->file_count = p->companion ? CHECKPOINT_FILES_MAX : CHECKPOINT_FILES;
    s->companion_updates = p->companion ? p->companion->updates : 0;
    for (int i = 0; i < s->file_count; i++) {
        const struct parameters *of = i < FILE_COMPANION ? p : p->companion;
        const char *name = file_name(of->net, i);
        char *path = path_join(folder, name);
        int status = write_file(path, of, i, s, &s->files[i], e);
        free(path);
        if (status != 0)
            return error_prefix(e, "%s", name);
    }
    return 0;
}

int64_t checkpoint_bytes(const struct parameters *p)
{
    const int64_t header_of_tensor = 256, other = 65536;
    return (p->companion ? checkpoint_bytes(p->companion) : 0) +
           (int64_t)sizeof(float) * (2 * p->elements + 2 * p->trained_elements) +
           4 * header_of_tensor * p->count + other;
}

/* A file that is being loaded. */
struct reading {
    struct parameters *parameters;
    const struct weights *in;
    XXH3_state_t *hash;
    int64_t bytes, seen; /* seen: tensors of the parameters */
};

static int take_scalar(struct reading *r, const struct weight *w, struct error *e)
{
    float value;
    if (weight_count(w) != 1)
        return error_set(e, "'%s' is not a scalar", w->name);
    if (names_check_type(w, e) != 0)
        return -1;
    weight_to_f32(w, &value);
    parameters_set_scalar(r->parameters, w->name, value);
    return 0;
}

static int take_tensor(struct reading *r, const struct weight *w, const struct part *part,
                       struct error *e)
{
    const char *name = w->name + strlen(part->prefix);
    const struct parameter *t = parameters_find(r->parameters, name);
    if (!t || (!t->trained && part->array != ARRAY_WEIGHTS && part->array != ARRAY_EMA))
        return error_set(e, "'%s' is not part of the network", w->name);
    if (w->ndim != t->ndim || memcmp(w->shape, t->shape, (size_t)t->ndim * sizeof *t->shape) != 0)
        return error_set(e, "'%s' does not have the shape it has in the network", w->name);
    if (!all_finite(w->data, t->count))
        return error_set(e, "'%s' contains a non-finite value", w->name);
    parameters_write(r->parameters, part->array, t->offset, t->count, w->data);
    r->seen++;
    return 0;
}

static int take_all(struct reading *r, int file, struct error *e)
{
    struct part parts[PARTS_MAX];
    int count = parts_of(parts, file);
    for (int i = 0; i < weights_count(r->in); i++) {
        const struct weight *w = weights_at(r->in, i);
        hash_name(r->hash, w->name, w->ndim, w->shape);
    }
    for (int i = 0; i < weights_count(r->in); i++) {
        const struct weight *w = weights_at(r->in, i);
        if (w->unreadable || w->dtype != DTYPE_F32 || !w->contiguous)
            return error_set(e, "'%s' is not F32", w->name);
        XXH3_128bits_update(r->hash, w->data, weight_bytes(w));
        r->bytes += (int64_t)weight_bytes(w);
        const struct part *part = NULL;
        for (int p = 0; p < count && !part; p++)
            if (strncmp(w->name, parts[p].prefix, strlen(parts[p].prefix)) == 0)
                part = &parts[p];
        bool scalar =
            !is_optimizer(file) && tensor_kind_of(r->parameters->net, w->name) == TENSOR_SCALAR;
        if (!part)
            return error_set(e, "'%s' is not a moment of the optimizer", w->name);
        if ((scalar ? take_scalar(r, w, e) : take_tensor(r, w, part, e)) != 0)
            return -1;
        weights_forget(r->in, w);
    }
    int64_t missing = (int64_t)count * tensors_in(r->parameters, file) - r->seen;
    return missing == 0 ? 0 : error_set(e, "%" PRId64 " tensors are missing", missing);
}

static int read_file(struct parameters *p, const struct weights *in, int file,
                     const struct checkpoint_file *expected, struct error *e)
{
    struct reading r = {.parameters = p, .in = in, .hash = hash_new()};
    int status = take_all(&r, file, e);
    char hash[CHECKPOINT_HASH_SIZE];
    print_hash(hash, r.hash);
    XXH3_freeState(r.hash);
    if (status == 0 && (r.bytes != expected->bytes || strcmp(hash, expected->hash) != 0))
        status = error_set(e, "damaged or modified: its hash differs from the one in " STATE_FILE);
    return status;
}

/* Whether a tensor was trained: then the optimizer's file has its first moment. */
static bool is_optimized(const struct weights *optimizer, const char *name)
{
    char *moment = xasprintf("m.%s", name);
    bool there = weights_find(optimizer, moment) != NULL;
    free(moment);
    return there;
}

static int add_tensor(struct architecture *a, enum net net, const struct weight *w,
                      const struct weights *optimizer, struct error *e)
{
    enum tensor_kind kind = tensor_kind_of(net, w->name);
    if (strlen(w->name) >= sizeof a->items->name ||
        (kind != TENSOR_SCALAR && (w->ndim < 1 || w->ndim > ARCHITECTURE_MAX_DIMS)))
        return error_set(e, "'%s' has an unsupported name or shape", w->name);
    if (kind == TENSOR_SCALAR)
        architecture_add_scalar(a, w->name, 0);
    else
        architecture_add(a, w->ndim, w->shape, "%s", w->name)->kind =
            is_optimized(optimizer, w->name) ? kind : TENSOR_FIXED;
    return 0;
}

/* Parameters for the tensors of a file, all zero. optimizer: the file of moments, which has none
 * for tensors that were not trained. */
static int parameters_of_file(struct parameters **p, const struct weights *in,
                              const struct weights *optimizer, struct device *d, struct error *e)
{
    enum net net;
    if (names_detect(&net, in, e) != 0)
        return -1;
    struct architecture architecture = {0};
    int status = 0;
    for (int i = 0; i < weights_count(in) && status == 0; i++)
        status = add_tensor(&architecture, net, weights_at(in, i), optimizer, e);
    if (status == 0)
        *p = parameters_empty(&architecture, net, d);
    architecture_release(&architecture);
    return status;
}

static int open_file(struct weights **in, const struct training_state *s, const char *checkpoint,
                     int file, struct error *e)
{
    char *path = path_join(checkpoint, s->files[file].name);
    int status = weights_open(in, path, e);
    if (status != 0)
        error_prefix(e, "'%s'", path);
    free(path);
    return status;
}

static int load_file(struct parameters *p, const struct training_state *s, const char *checkpoint,
                     int file, const struct weights *in, struct error *e)
{
    int status = 0;
    if (strcmp(s->files[file].name, file_name(p->net, file)) != 0)
        status = error_set(e, "unexpected file name");
    if (status == 0)
        status = read_file(p, in, file, &s->files[file], e);
    return status != 0 ? error_prefix(e, "'%s/%s'", checkpoint, s->files[file].name) : 0;
}

static void close_files(struct weights *in[CHECKPOINT_FILES_MAX])
{
    for (int i = 0; i < CHECKPOINT_FILES_MAX; i++)
        weights_close(in[i]);
}

/* Opens the files and makes parameters for their tensors, all zero. */
static int open_all(struct parameters **out, struct weights *in[CHECKPOINT_FILES_MAX],
                    const struct training_state *s, const char *checkpoint, struct device *d,
                    struct error *e)
{
    struct parameters *p = NULL;
    int status = 0;
    for (int i = 0; i < s->file_count && status == 0; i++)
        status = open_file(&in[i], s, checkpoint, i, e);
    if (status == 0 && parameters_of_file(&p, in[FILE_RAW], in[FILE_OPTIMIZER], d, e) != 0)
        status = error_prefix(e, "'%s/%s'", checkpoint, s->files[FILE_RAW].name);
    if (status == 0 && s->file_count > FILE_COMPANION &&
        parameters_of_file(&p->companion, in[FILE_COMPANION], in[FILE_COMPANION_OPTIMIZER], d, e) !=
            0)
        status = error_prefix(e, "'%s/%s'", checkpoint, s->files[FILE_COMPANION].name);
    if (status != 0) {
        parameters_free(p);
        close_files(in);
        return -1;
    }
    *out = p;
    return 0;
}

int checkpoint_plan_parameters(struct parameters **out, const struct training_state *s,
                               const char *checkpoint, struct device *d, struct error *e)
{
    struct weights *in[CHECKPOINT_FILES_MAX] = {0};
    CHECK(d->dry);
    if (open_all(out, in, s, checkpoint, d, e) != 0)
        return -1;
    struct reading r = {.parameters = *out, .in = in[FILE_RAW]};
    int status = 0;
    for (int i = 0; i < weights_count(r.in) && status == 0; i++)
        if (tensor_kind_of((*out)->net, weights_at(r.in, i)->name) == TENSOR_SCALAR)
            status = take_scalar(&r, weights_at(r.in, i), e);
    close_files(in);
    if (status != 0) {
        error_prefix(e, "'%s/%s'", checkpoint, s->files[FILE_RAW].name);
        parameters_free(*out);
    }
    return status;
}

int checkpoint_load_parameters(struct parameters **out, const struct training_state *s,
                               const char *checkpoint, struct device *d,
                               parameters_prepare *prepare, void *context, struct error *e)
{
    struct weights *in[CHECKPOINT_FILES_MAX] = {0};
    struct parameters *p;
    int status = open_all(&p, in, s, checkpoint, d, e);
    if (status != 0)
        return -1;
    for (struct parameters *q = prepare ? p : NULL; q; q = q->companion)
        prepare(context, q);
    for (int i = 0; i < s->file_count && status == 0; i++)
        status = load_file(i < FILE_COMPANION ? p : p->companion, s, checkpoint, i, in[i], e);
    close_files(in);
    if (status != 0) {
        parameters_free(p);
        return -1;
    }
    p->updates = s->updates;
    if (p->companion) {
        p->companion->updates = s->companion_updates;
        parameters_restart_ema(p->companion); /* it has no EMA */
    }
    *out = p;
    return 0;
}
