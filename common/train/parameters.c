#include "common/train/parameters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "common/nets/network.h"
#include "common/train/parameters_internal.h"

#define ALIGNMENT 16 /* elements: 64 bytes */

static void add_tensor(struct parameters *p, const char *name, bool trained, int ndim,
                       const int64_t *shape)
{
    CHECK(ndim >= 1 && ndim <= ARCHITECTURE_MAX_DIMS);
    struct parameter *t = &p->tensors[p->count++];
    *t = (struct parameter){.name = xstrdup(name), .trained = trained, .ndim = ndim, .count = 1};
    for (int i = 0; i < ndim; i++) {
        t->shape[i] = shape[i];
        t->count *= shape[i];
    }
}

/* Matrices with the same input, which are multiplied as one (loader_stack). */
static bool is_modulation(const struct parameter *t)
{
    return has_suffix(t->name, ".layer.weight");
}

bool parameter_is_tower_matrix(const struct parameter *t)
{
    bool tower =
        strncmp(t->name, "image_encoder.", 14) == 0 || strncmp(t->name, "text_encoder.", 13) == 0;
    return tower && has_suffix(t->name, ".weight") && !has_suffix(t->name, ".norm.weight") &&
           !has_suffix(t->name, "embed.weight");
}

static bool is_first(const struct parameter *t)
{
    return is_modulation(t) || parameter_is_tower_matrix(t);
}

static int in_order(const void *left, const void *right)
{
    const struct parameter *a = left, *b = right;
    if (a->trained != b->trained)
        return b->trained - a->trained;
    int together = is_first(b) - is_first(a);
    return together ? together : strcmp(a->name, b->name);
}

static int64_t padded(int64_t count)
{
    return (count + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Sets the offsets and allocates the weights, once all tensors have been added. */
static void lay_out(struct parameters *p)
{
    qsort(p->tensors, (size_t)p->count, sizeof *p->tensors, in_order);
    for (int i = 0; i < p->count; i++) {
        struct parameter *t = &p->tensors[i];
        t->offset = p->elements;
        p->elements += padded(t->count);
        if (t->trained) {
            p->trained_count++;
            p->trained_elements = p->elements;
            p->parameter_count += t->count;
            if (p->net != NET_CLOOB || parameter_is_tower_matrix(t))
                p->decayed_elements = p->elements;
        }
    }
    p->collective = collective_alone();
    p->arrays[ARRAY_WEIGHTS] = parameters_array(p, p->elements);
}

struct move {
    int tensor, completion;
    bool kernel, decayed;
};

static int by_completion(const void *left, const void *right)
{
    const struct move *a = left, *b = right;
    if (a->kernel != b->kernel)
        return b->kernel - a->kernel;
    if (a->decayed != b->decayed)
        return b->decayed - a->decayed;
    return a->completion != b->completion ? (a->completion > b->completion) * 2 - 1
                                          : a->tensor - b->tensor;
}

static void copy_elements(struct tensor *to, int64_t at, struct tensor *from, int64_t first,
                          int64_t count)
{
    struct tensor *source = tensor_slice(from, first, count), *place = tensor_slice(to, at, count);
    tensor_copy(place, source);
    tensor_release(source);
    tensor_release(place);
}

#define HIDDEN_CHANNELS 64 /* input and output have fewer */
static bool is_kernel(const struct parameter *t)
{
    return strncmp(t->name, "net.", 4) == 0 && t->ndim == 4 && t->shape[2] * t->shape[3] > 1 &&
           t->shape[0] >= HIDDEN_CHANNELS && t->shape[1] >= HIDDEN_CHANNELS;
}

/* completion: NULL if nothing is known of it. */
static void arrange(struct parameters *p, const int *completion)
{
    struct move *moves = xcalloc((size_t)p->trained_count + 1, sizeof *moves);
    struct tensor *before = p->arrays[ARRAY_WEIGHTS];
    int64_t at = 0, fixed = p->elements - p->trained_elements;
    for (int i = 0; i < p->trained_count; i++)
        moves[i] = (struct move){.tensor = i,
                                 .completion = completion ? completion[i] : 0,
                                 .kernel = p->kernels_first && is_kernel(&p->tensors[i]),
                                 .decayed = p->tensors[i].offset < p->decayed_elements};
    qsort(moves, (size_t)p->trained_count, sizeof *moves, by_completion);
    p->arrays[ARRAY_WEIGHTS] = parameters_array(p, p->elements);
    for (int i = 0; i < p->trained_count; i++) {
        struct parameter *t = &p->tensors[moves[i].tensor];
        copy_elements(p->arrays[ARRAY_WEIGHTS], at, before, t->offset, t->count);
        t->offset = at;
        at += padded(t->count);
        if (moves[i].kernel)
            p->kernel_elements = at;
    }
    if (fixed > 0)
        copy_elements(p->arrays[ARRAY_WEIGHTS], p->trained_elements, before, p->trained_elements,
                      fixed);
    tensor_release(before);
    free(moves);
}

void parameters_kernels_first(struct parameters *p)
{
    CHECK(!p->arrays[ARRAY_EMA]);
    p->kernels_first = p->net == NET_UNET;
}

void parameters_place(struct parameters *p, struct collective *c, const int *completion)
{
    CHECK(!p->arrays[ARRAY_EMA]);
    if (completion || p->kernels_first)
        arrange(p, completion);
    p->collective = c;
    parameters_allocate(p);
}

struct parameters *parameters_empty(const struct architecture *architecture, enum net net,
                                    struct device *d)
{
    struct parameters *p = xcalloc(1, sizeof *p);
    p->device = d;
    p->net = net;
    p->tensors = xcalloc((size_t)architecture->count, sizeof *p->tensors);
    for (int i = 0; i < architecture->count; i++) {
        const struct tensor_spec *t = &architecture->items[i];
        if (t->kind == TENSOR_SCALAR)
            parameters_set_scalar(p, t->name, t->value);
        else
            add_tensor(p, t->name, t->kind == TENSOR_TRAINED, t->ndim, t->shape);
    }
    lay_out(p);
    return p;
}

struct parameters *parameters_new(const struct architecture *architecture, enum net net,
                                  uint64_t seed, struct device *d)
{
    struct parameters *p = parameters_empty(architecture, net, d);
    if (!d->dry)
        parameters_initialize(p, seed);
    return p;
}

static int read_weight(struct parameters *p, const struct parameter *t, const struct weight *w,
                       struct error *e)
{
    if (names_check_type(w, e) != 0)
        return -1;
    float *host = xmalloc((size_t)t->count * sizeof *host);
    weight_to_f32(w, host);
    int status = 0;
    for (int64_t i = 0; i < t->count && status == 0; i++)
        if (!isfinite(host[i]))
            status = error_set(e, "tensor '%s' contains a non-finite value", t->name);
    if (status == 0)
        parameters_write(p, ARRAY_WEIGHTS, t->offset, t->count, host);
    free(host);
    return status;
}

int parameters_from_names(struct parameters **out, const struct named_weights *names,
                          bool (*fixed)(const char *name), struct device *d, struct error *e)
{
    struct parameters *p = xcalloc(1, sizeof *p);
    p->device = d;
    p->net = names->net;
    p->tensors = xcalloc((size_t)names->count, sizeof *p->tensors);
    int status = 0;
    for (int i = 0; i < names->count && status == 0; i++) {
        const struct weight *w = &names->items[i];
        enum tensor_kind kind = tensor_kind_of(p->net, w->name);
        double value;
        if (kind == TENSOR_SCALAR && names_scalar(names, w->name, &value))
            parameters_set_scalar(p, w->name, (float)value);
        else if (kind == TENSOR_SCALAR || w->ndim < 1 || w->ndim > ARCHITECTURE_MAX_DIMS)
            status = error_set(e, "tensor '%s' has an unsupported number of dimensions, %d",
                               w->name, w->ndim);
        else
            add_tensor(p, w->name, kind == TENSOR_TRAINED && !(fixed && fixed(w->name)), w->ndim,
                       w->shape);
    }
    if (status == 0)
        lay_out(p);
    for (int i = 0; i < p->count && status == 0 && !d->dry; i++)
        status = read_weight(p, &p->tensors[i], names_find(names, p->tensors[i].name), e);
    if (status != 0) {
        parameters_free(p);
        return -1;
    }
    *out = p;
    return 0;
}

struct architecture parameters_architecture(const struct parameters *p)
{
    struct architecture a = {0};
    for (int i = 0; i < p->count; i++) {
        const struct parameter *t = &p->tensors[i];
        struct tensor_spec *spec = architecture_add(&a, t->ndim, t->shape, "%s", t->name);
        spec->kind = t->trained ? TENSOR_TRAINED : TENSOR_FIXED;
    }
    return a;
}

struct parameters *parameters_like(const struct parameters *p, struct device *d)
{
    struct parameters *other = xcalloc(1, sizeof *other);
    other->device = d;
    other->net = p->net;
    other->tensors = xcalloc((size_t)p->count, sizeof *other->tensors);
    for (int i = 0; i < p->count; i++) {
        const struct parameter *t = &p->tensors[i];
        add_tensor(other, t->name, t->trained, t->ndim, t->shape);
    }
    for (int i = 0; i < p->scalar_count; i++)
        parameters_set_scalar(other, p->scalars[i].name, p->scalars[i].value);
    lay_out(other);
    for (int i = 0; i < p->count; i++)
        other->tensors[i].offset = p->tensors[i].offset;
    other->kernels_first = p->kernels_first;
    other->kernel_elements = p->kernel_elements;
    other->companion = p->companion ? parameters_like(p->companion, d) : NULL;
    return other;
}

void parameters_free(struct parameters *p)
{
    if (!p)
        return;
    for (int i = 0; i < ARRAY_COUNT; i++)
        tensor_release(p->arrays[i]);
    tensor_release(p->micro_gradients);
    tensor_release(p->whole_ema);
    for (int i = 0; i < p->count; i++)
        free(p->tensors[i].name);
    for (int i = 0; i < p->scalar_count; i++)
        free(p->scalars[i].name);
    free(p->tensors);
    parameters_free(p->companion);
    free(p);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weight *)a)->name, ((const struct weight *)b)->name);
}

void parameters_names(struct named_weights *out, const struct parameters *p,
                      enum parameter_array which)
{
    CHECK(which == ARRAY_WEIGHTS || which == ARRAY_EMA);
    const float *whole = parameters_whole(p, which)->data;
    *out = (struct named_weights){.net = p->net, .ema = which == ARRAY_EMA, .device = p->device};
    out->items = xcalloc((size_t)(p->count + p->scalar_count), sizeof *out->items);
    for (int i = 0; i < p->count; i++) {
        const struct parameter *t = &p->tensors[i];
        struct weight *w = &out->items[out->count++];
        *w = (struct weight){.name = t->name, .dtype = DTYPE_F32, .ndim = t->ndim};
        memcpy(w->shape, t->shape, sizeof t->shape);
        w->data = (float *)whole + t->offset;
        weight_set_row_major(w);
    }
    for (int i = 0; i < p->scalar_count; i++) {
        struct weight *w = &out->items[out->count++];
        *w = (struct weight){.name = p->scalars[i].name, .dtype = DTYPE_F32};
        w->data = &p->scalars[i].value;
        weight_set_row_major(w);
    }
    qsort(out->items, (size_t)out->count, sizeof *out->items, by_name);
}

void parameters_bind(const struct parameters *p, struct loader *l)
{
    const float *weights = p->arrays[ARRAY_WEIGHTS]->data;
    struct tensor *all =
        p->micro_gradients ? p->micro_gradients : parameters_whole(p, ARRAY_GRADIENTS);
    for (int i = 0; i < p->count; i++)
        p->tensors[i].compact = NULL;
    for (int i = 0; i < l->count; i++) {
        struct tensor *weight = l->items[i].tensor;
        int64_t offset = (const float *)weight->data - weights;
        CHECK(offset >= 0 && offset + tensor_count(weight) <= p->elements);
        const struct weight *w = l->items[i].weight;
        const struct parameter *t = w ? parameters_find(p, w->name) : NULL;
        CHECK(!w || (t && t->offset == offset));
        if (l->items[i].stacked || (t && !t->trained))
            continue;
        struct tensor *flat = tensor_slice(all, offset, tensor_count(weight));
        struct tensor *gradient = tensor_reshape(flat, weight->ndim, weight->shape);
        tensor_set_parameter(weight, gradient);
        tensor_release(gradient);
        tensor_release(flat);
    }
}

void parameters_aim(const struct parameters *p, struct loader *l, bool at_sum)
{
    const float *weights = p->arrays[ARRAY_WEIGHTS]->data;
    struct tensor *all = at_sum ? parameters_whole(p, ARRAY_GRADIENTS) : p->micro_gradients;
    for (int i = 0; i < l->count; i++) {
        struct tensor *weight = l->items[i].tensor;
        if (weight->gradient && weight->gradient->parameter)
            weight->gradient->value->data =
                (float *)all->data + ((const float *)weight->data - weights);
    }
}

void parameters_split_gradients(struct parameters *p)
{
    if (p->micro_gradients)
        return;
    p->micro_gradients = parameters_array(p, p->trained_elements); /* gaps stay zero */
}

const struct parameter *parameters_find(const struct parameters *p, const char *name)
{
    for (int trained = 1; trained >= 0; trained--) {
        struct parameter wanted = {.name = (char *)name, .trained = trained};
        const struct parameter *t =
            bsearch(&wanted, p->tensors, (size_t)p->count, sizeof *p->tensors, in_order);
        if (t)
            return t;
    }
    return NULL;
}

void parameters_set_scalar(struct parameters *p, const char *name, float value)
{
    int i = 0;
    while (i < p->scalar_count && strcmp(p->scalars[i].name, name) != 0)
        i++;
    if (i == p->scalar_count) {
        CHECK(i < PARAMETERS_SCALARS_MAX);
        p->scalars[p->scalar_count++].name = xstrdup(name);
    }
    p->scalars[i].value = value;
}

int parameters_from_file(struct parameters **p, const char *path, enum net net,
                         bool (*fixed)(const char *name), struct device *d, struct error *e)
{
    struct weights *w;
    struct named_weights names;
    if (weights_open(&w, path, e) != 0)
        return error_prefix(e, "cannot read '%s'", path);
    int status = names_resolve(&names, w, net, PICK_EMA, e);
    if (status == 0) {
        status = parameters_from_names(p, &names, fixed, d, e);
        names_release(&names);
    }
    weights_close(w);
    return status == 0 ? 0 : error_prefix(e, "cannot use '%s'", path);
}
