#include "common/train/parameters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/threads.h"

#define ALIGNMENT 16 /* elements: 64 bytes */

static int64_t array_length(const struct bank *b, enum bank_array which)
{
    return which == BANK_PARAMETERS || which == BANK_EMA ? b->elements : b->trained_elements;
}

static float *array_data(const struct bank *b, enum bank_array which)
{
    return b->arrays[which]->data;
}

static void add_tensor(struct bank *b, const char *name, bool trained, int ndim,
                       const int64_t *shape)
{
    CHECK(ndim >= 1 && ndim <= PLAN_MAX_DIMS);
    struct bank_tensor *t = &b->tensors[b->count++];
    *t = (struct bank_tensor){.name = xstrdup(name), .trained = trained, .ndim = ndim, .count = 1};
    for (int i = 0; i < ndim; i++) {
        t->shape[i] = shape[i];
        t->count *= shape[i];
    }
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Matrices that all see the same input and so are multiplied as one (loader_stack). */
static bool is_modulation(const struct bank_tensor *t)
{
    return ends_with(t->name, ".layer.weight");
}

/* Of a CLOOB tower: what its reference lets weights decay in. Embeddings, the patches' too, are no
 * such matrices. */
static bool is_tower_matrix(const struct bank_tensor *t)
{
    bool tower = !strncmp(t->name, "image_encoder.", 14) || !strncmp(t->name, "text_encoder.", 13);
    return tower && ends_with(t->name, ".weight") && !ends_with(t->name, ".norm.weight") &&
           !ends_with(t->name, "embed.weight");
}

static bool is_first(const struct bank_tensor *t)
{
    return is_modulation(t) || is_tower_matrix(t);
}

static int in_order(const void *left, const void *right)
{
    const struct bank_tensor *a = left, *b = right;
    if (a->trained != b->trained)
        return b->trained - a->trained;
    int together = is_first(b) - is_first(a);
    return together ? together : strcmp(a->name, b->name);
}

/* Offsets and arrays, when all tensors have been added. */
static void lay_out(struct bank *b)
{
    qsort(b->tensors, (size_t)b->count, sizeof *b->tensors, in_order);
    for (int i = 0; i < b->count; i++) {
        struct bank_tensor *t = &b->tensors[i];
        t->offset = b->elements;
        b->elements += (t->count + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (t->trained) {
            b->trained_count++;
            b->trained_elements = b->elements;
            b->parameters += t->count;
            if (b->net != NET_CLOOB || is_tower_matrix(t))
                b->decayed_elements = b->elements;
        }
    }
    for (int i = 0; i < BANK_ARRAYS; i++) {
        b->arrays[i] = tensor_new(b->device, DTYPE_F32, DIMS(array_length(b, i)));
        bank_fill(b, i, 0);
    }
}

/* How many inputs feed an output of the module that a tensor belongs to: a bias' are its weight's.
 * 0: a norm's. */
static int64_t fan_in(const struct bank *b, const struct bank_tensor *t)
{
    if (t->ndim == 1 && ends_with(t->name, ".bias")) {
        char *name = xasprintf("%.*sweight", (int)(strlen(t->name) - strlen("bias")), t->name);
        const struct bank_tensor *weight = bank_find(b, name);
        free(name);
        CHECK(weight);
        t = weight;
    }
    return t->ndim == 1 ? 0 : t->count / t->shape[0];
}

static uint64_t fnv1a(const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        h = (h ^ *c) * UINT64_C(0x100000001b3);
    return h;
}

#define DRAW_AT_ONCE (1 << 16)
/* Standard deviation of what is left of a standard normal between -2 and 2. */
#define CUT_NORMAL_DEVIATION 0.87962566103423978

/* Standard deviation, before the cut, of the truncated normals that a CLOOB tensor starts with, as
 * haiku's modules have it; 0: a constant. */
static double cloob_deviation(const struct bank_tensor *t)
{
    if (ends_with(t->name, "class_embed") || ends_with(t->name, "encoder.embed.weight"))
        return 1 / sqrt((double)t->shape[t->ndim == 4 ? 0 : t->ndim - 1]);
    if (ends_with(t->name, "pos_embed.weight"))
        return 1 / sqrt((double)t->shape[1]);
    if (!is_tower_matrix(t))
        return 0;
    double of_cut = strstr(t->name, ".attn.") ? CUT_NORMAL_DEVIATION : 1;
    return 1 / (of_cut * sqrt((double)t->shape[1]));
}

/* n normals without those beyond 2, elements `at` and following of a tensor: where one is beyond,
 * that of the next stream counts. */
static void draw_cut_normals(float *out, int64_t n, uint64_t seed, uint64_t tensor, int64_t at)
{
    float *draw = xmalloc((size_t)n * sizeof *draw);
    for (int64_t i = 0; i < n; i++)
        out[i] = INFINITY;
    int64_t left = n;
    for (uint32_t stream = 0; left > 0; stream++) {
        rng_normal(draw, (size_t)n, seed, RNG_INITIAL_WEIGHTS, stream, tensor, (uint64_t)at);
        for (int64_t i = 0; i < n; i++)
            if (out[i] == INFINITY && fabsf(draw[i]) <= 2) {
                out[i] = draw[i];
                left--;
            }
    }
    free(draw);
}

static void initialise_cloob(struct bank *b, const struct bank_tensor *t, uint64_t seed)
{
    float *host = xmalloc(DRAW_AT_ONCE * sizeof *host);
    float deviation = (float)cloob_deviation(t);
    for (int64_t at = 0; at < t->count; at += DRAW_AT_ONCE) {
        int64_t n = t->count - at < DRAW_AT_ONCE ? t->count - at : DRAW_AT_ONCE;
        if (deviation > 0)
            draw_cut_normals(host, n, seed, fnv1a(t->name), at);
        for (int64_t i = 0; i < n; i++)
            host[i] = deviation > 0 ? deviation * host[i] : !ends_with(t->name, ".bias");
        bank_write(b, BANK_PARAMETERS, t->offset + at, n, host);
    }
    free(host);
}

/* Deviation of the normals that a discriminator's kernels and norms start with, around 0 and 1. */
#define DISCRIMINATOR_DEVIATION 0.02f

static bool is_discriminator_normal(const struct bank *b, const struct bank_tensor *t)
{
    return b->net == NET_DISCRIMINATOR && ends_with(t->name, ".weight");
}

static void initialise_discriminator(struct bank *b, const struct bank_tensor *t, uint64_t seed)
{
    float *host = xmalloc((size_t)t->count * sizeof *host);
    rng_normal(host, (size_t)t->count, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name), 0);
    for (int64_t i = 0; i < t->count; i++)
        host[i] = DISCRIMINATOR_DEVIATION * host[i] + (t->ndim == 1);
    bank_write(b, BANK_PARAMETERS, t->offset, t->count, host);
    free(host);
}

static void initialise(struct bank *b, const struct bank_tensor *t, uint64_t seed)
{
    if (is_discriminator_normal(b, t)) {
        initialise_discriminator(b, t, seed);
        return;
    }
    if (b->net == NET_CLOOB) {
        initialise_cloob(b, t, seed);
        return;
    }
    float *host = xmalloc(DRAW_AT_ONCE * sizeof *host);
    float gain = b->net == NET_UNET && t->trained ? sqrtf(0.5f) : 1;
    int64_t inputs = fan_in(b, t);
    float bound = inputs ? gain / sqrtf((float)inputs) : 0;
    for (int64_t at = 0; at < t->count; at += DRAW_AT_ONCE) {
        int64_t n = t->count - at < DRAW_AT_ONCE ? t->count - at : DRAW_AT_ONCE;
        if (!t->trained)
            rng_normal(host, (size_t)n, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name), (uint64_t)at);
        else if (inputs)
            rng_uniform(host, (size_t)n, seed, RNG_INITIAL_WEIGHTS, 0, fnv1a(t->name),
                        (uint64_t)at);
        for (int64_t i = 0; t->trained && i < n; i++)
            host[i] = inputs ? (2 * host[i] - 1) * bound : ends_with(t->name, ".bias") ? 0 : gain;
        bank_write(b, BANK_PARAMETERS, t->offset + at, n, host);
    }
    free(host);
}

struct initialisation {
    struct bank *bank;
    uint64_t seed;
};

static void initialise_some(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    const struct initialisation *job = arg;
    for (int64_t i = begin; i < end; i++)
        initialise(job->bank, &job->bank->tensors[i], job->seed);
}

struct bank *bank_empty(const struct net_plan *plan, enum net net, struct device *d)
{
    struct bank *b = xcalloc(1, sizeof *b);
    b->device = d;
    b->net = net;
    b->tensors = xcalloc((size_t)plan->count, sizeof *b->tensors);
    for (int i = 0; i < plan->count; i++) {
        const struct plan_tensor *t = &plan->items[i];
        if (t->kind == PLAN_SCALAR)
            bank_set_scalar(b, t->name, t->value);
        else
            add_tensor(b, t->name, t->kind == PLAN_TRAINED, t->ndim, t->shape);
    }
    lay_out(b);
    return b;
}

struct bank *bank_new(const struct net_plan *plan, enum net net, uint64_t seed, struct device *d)
{
    struct bank *b = bank_empty(plan, net, d);
    struct initialisation job = {b, seed};
    parallel_for(d->host_memory ? b->count : 0, 1, initialise_some, &job);
    for (int i = 0; !d->host_memory && i < b->count; i++)
        initialise(b, &b->tensors[i], seed);
    bank_copy(b, BANK_EMA, BANK_PARAMETERS);
    return b;
}

static int read_weight(struct bank *b, const struct bank_tensor *t, const struct weight *w,
                       struct error *e)
{
    float *host = xmalloc((size_t)t->count * sizeof *host);
    weight_to_f32(w, host);
    int result = 0;
    for (int64_t i = 0; i < t->count && !result; i++)
        if (!isfinite(host[i]))
            result = error_set(e, "tensor '%s' holds a number that is not finite", t->name);
    if (!result)
        bank_write(b, BANK_PARAMETERS, t->offset, t->count, host);
    free(host);
    return result;
}

int bank_from_names(struct bank **b, const struct named_weights *names, struct device *d,
                    struct error *e)
{
    return bank_from_names_fixing(b, names, NULL, d, e);
}

int bank_from_names_fixing(struct bank **out, const struct named_weights *names,
                           bool (*fixed)(const char *name), struct device *d, struct error *e)
{
    struct bank *b = xcalloc(1, sizeof *b);
    b->device = d;
    b->net = names->net;
    b->tensors = xcalloc((size_t)names->count, sizeof *b->tensors);
    int result = 0;
    for (int i = 0; i < names->count && !result; i++) {
        const struct weight *w = &names->items[i];
        enum plan_kind kind = plan_kind_of(b->net, w->name);
        double value;
        if (kind == PLAN_SCALAR && names_scalar(names, w->name, &value))
            bank_set_scalar(b, w->name, (float)value);
        else if (kind == PLAN_SCALAR || w->ndim < 1 || w->ndim > PLAN_MAX_DIMS)
            result = error_set(e, "tensor '%s' has %d dimensions", w->name, w->ndim);
        else
            add_tensor(b, w->name, kind == PLAN_TRAINED && !(fixed && fixed(w->name)), w->ndim,
                       w->shape);
    }
    if (!result)
        lay_out(b);
    for (int i = 0; i < b->count && !result; i++)
        result = read_weight(b, &b->tensors[i], names_find(names, b->tensors[i].name), e);
    if (result) {
        bank_free(b);
        return -1;
    }
    bank_copy(b, BANK_EMA, BANK_PARAMETERS);
    *out = b;
    return 0;
}

struct net_plan bank_plan(const struct bank *b)
{
    struct net_plan p = {.items = xcalloc((size_t)b->count, sizeof *p.items)};
    for (int i = 0; i < b->count; i++) {
        const struct bank_tensor *t = &b->tensors[i];
        struct plan_tensor *item = &p.items[p.count++];
        item->kind = t->trained ? PLAN_TRAINED : PLAN_FIXED;
        item->ndim = t->ndim;
        memcpy(item->shape, t->shape, sizeof t->shape);
        int n = snprintf(item->name, sizeof item->name, "%s", t->name);
        CHECK(n >= 0 && (size_t)n < sizeof item->name);
    }
    return p;
}

struct bank *bank_like(const struct bank *b, struct device *d)
{
    struct bank *other = xcalloc(1, sizeof *other);
    other->device = d;
    other->net = b->net;
    other->tensors = xcalloc((size_t)b->count, sizeof *other->tensors);
    for (int i = 0; i < b->count; i++) {
        const struct bank_tensor *t = &b->tensors[i];
        add_tensor(other, t->name, t->trained, t->ndim, t->shape);
    }
    for (int i = 0; i < b->scalar_count; i++)
        bank_set_scalar(other, b->scalars[i].name, b->scalars[i].value);
    lay_out(other);
    other->companion = b->companion ? bank_like(b->companion, d) : NULL;
    return other;
}

void bank_free(struct bank *b)
{
    if (!b)
        return;
    for (int i = 0; i < BANK_ARRAYS; i++)
        tensor_release(b->arrays[i]);
    for (int i = 0; i < b->count; i++)
        free(b->tensors[i].name);
    for (int i = 0; i < b->scalar_count; i++)
        free(b->scalars[i].name);
    free(b->tensors);
    bank_free(b->companion);
    free(b);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weight *)a)->name, ((const struct weight *)b)->name);
}

void bank_names(struct named_weights *out, const struct bank *b, enum bank_array which)
{
    CHECK(which == BANK_PARAMETERS || which == BANK_EMA);
    *out = (struct named_weights){.net = b->net, .ema = which == BANK_EMA, .device = b->device};
    out->items = xcalloc((size_t)(b->count + b->scalar_count), sizeof *out->items);
    for (int i = 0; i < b->count; i++) {
        const struct bank_tensor *t = &b->tensors[i];
        struct weight *w = &out->items[out->count++];
        *w = (struct weight){.name = t->name, .dtype = DTYPE_F32, .ndim = t->ndim};
        memcpy(w->shape, t->shape, sizeof t->shape);
        w->data = array_data(b, which) + t->offset;
        weight_set_row_major(w);
    }
    for (int i = 0; i < b->scalar_count; i++) {
        struct weight *w = &out->items[out->count++];
        *w = (struct weight){.name = b->scalars[i].name, .dtype = DTYPE_F32};
        w->data = &b->scalars[i].value;
        weight_set_row_major(w);
    }
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_name);
}

void bank_bind(const struct bank *b, struct loader *l)
{
    const float *parameters = array_data(b, BANK_PARAMETERS);
    for (int i = 0; i < l->count; i++) {
        struct tensor *shown = l->items[i].tensor;
        int64_t offset = (const float *)shown->data - parameters;
        CHECK(offset >= 0 && offset + tensor_count(shown) <= b->elements);
        const struct weight *w = l->items[i].weight;
        const struct bank_tensor *t = w ? bank_find(b, w->name) : NULL;
        CHECK(!w || (t && t->offset == offset));
        if (l->items[i].stacked || (t && !t->trained))
            continue;
        struct tensor *flat = tensor_slice(b->arrays[BANK_GRADIENTS], offset, tensor_count(shown));
        struct tensor *gradient = tensor_reshape(flat, shown->ndim, shown->shape);
        tensor_set_parameter(shown, gradient);
        tensor_release(gradient);
        tensor_release(flat);
    }
}

const struct bank_tensor *bank_find(const struct bank *b, const char *name)
{
    for (int trained = 1; trained >= 0; trained--) {
        struct bank_tensor wanted = {.name = (char *)name, .trained = trained};
        const struct bank_tensor *t =
            bsearch(&wanted, b->tensors, (size_t)b->count, sizeof *b->tensors, in_order);
        if (t)
            return t;
    }
    return NULL;
}

const float *bank_read(const struct bank *b, enum bank_array which, int64_t first, int64_t count,
                       float *scratch)
{
    CHECK(first >= 0 && count >= 0 && first + count <= array_length(b, which));
    const float *at = array_data(b, which) + first;
    if (b->device->host_memory)
        return at;
    b->device->backend->download(b->device, scratch, at, (size_t)count * sizeof *at);
    return scratch;
}

void bank_write(struct bank *b, enum bank_array which, int64_t first, int64_t count,
                const float *host)
{
    CHECK(first >= 0 && count >= 0 && first + count <= array_length(b, which));
    b->device->backend->upload(b->device, array_data(b, which) + first, host,
                               (size_t)count * sizeof *host);
}

void bank_fill(struct bank *b, enum bank_array which, float value)
{
    struct fill_args args = {array_length(b, which), array_data(b, which), value};
    b->device->backend->fill(b->device, &args);
}

void bank_copy(struct bank *b, enum bank_array to, enum bank_array from)
{
    CHECK(array_length(b, to) == array_length(b, from));
    const float one = 1;
    struct linear_combination_args args = {.count = 1, .y = b->arrays[to]};
    args.x[0] = b->arrays[from];
    args.coefficients[0] = one;
    b->device->backend->linear_combination(b->device, &args);
}

struct tensor *bank_view(const struct bank *b, enum bank_array which, const struct bank_tensor *t)
{
    CHECK(t->offset + t->count <= array_length(b, which));
    struct tensor *flat = tensor_slice(b->arrays[which], t->offset, t->count);
    struct tensor *view = tensor_reshape(flat, t->ndim, t->shape);
    tensor_release(flat);
    return view;
}

void bank_set_scalar(struct bank *b, const char *name, float value)
{
    int i = 0;
    while (i < b->scalar_count && strcmp(b->scalars[i].name, name) != 0)
        i++;
    if (i == b->scalar_count) {
        CHECK(i < BANK_SCALARS_MAX);
        b->scalars[b->scalar_count++].name = xstrdup(name);
    }
    b->scalars[i].value = value;
}
