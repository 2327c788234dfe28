#include "common/nets/cloob.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"

#define HEAD_WIDTH 64
#define NORM_EPS   1e-5f
#define LAYERS_MAX 128

struct affine {
    struct tensor *weight, *bias;
};

struct layer {
    struct affine attention_norm, query, key, value, out;
    struct affine ff_norm, ff[2];
};

struct tower {
    struct tensor *embed, *positions, *class_embed; /* class_embed: image tower only */
    struct layer *layers;
    int layer_count;
    int heads;
    struct affine projection;
};

struct cloob {
    struct loader loader;
    struct cloob_sizes sizes;
    struct tower image, text;
};

static struct affine load_linear(struct loader *l, int64_t out, int64_t in, const char *prefix,
                                 const char *name)
{
    struct affine a = {0};
    a.weight = loader_get(l, DIMS(out, in), "%s.%s.weight", prefix, name);
    if (a.weight)
        a.bias = loader_get_f32(l, DIMS(a.weight->shape[0]), "%s.%s.bias", prefix, name);
    return a;
}

static struct affine load_norm(struct loader *l, int64_t width, const char *prefix)
{
    struct affine a = {0};
    a.weight = loader_get_f32(l, DIMS(width), "%s.norm.weight", prefix);
    a.bias = loader_get_f32(l, DIMS(width), "%s.norm.bias", prefix);
    return a;
}

static void load_layer(struct loader *l, struct layer *layer, int64_t d, const char *prefix)
{
    char attention[160], ff[160];
    snprintf(attention, sizeof attention, "%s.attn", prefix);
    snprintf(ff, sizeof ff, "%s.ff", prefix);
    layer->attention_norm = load_norm(l, d, attention);
    layer->query = load_linear(l, d, d, attention, "query");
    layer->key = load_linear(l, d, d, attention, "key");
    layer->value = load_linear(l, d, d, attention, "value");
    layer->out = load_linear(l, d, d, attention, "out");
    layer->ff_norm = load_norm(l, d, ff);
    layer->ff[0] = load_linear(l, -1, d, ff, "linear_0");
    if (!l->failed)
        layer->ff[1] = load_linear(l, d, layer->ff[0].weight->shape[0], ff, "linear_1");
}

/* Everything behind the embedding; d: width of the tower. */
static void load_tower(struct loader *l, struct tower *tower, int64_t d, int64_t *embed_width,
                       const char *side)
{
    char prefix[128];
    tower->positions = loader_get_f32(l, DIMS(-1, d), "%s.pos_embed.weight", side);
    if (!l->failed && d % HEAD_WIDTH) {
        error_set(l->error, "'%s': width %lld is no multiple of %d", side, (long long)d,
                  HEAD_WIDTH);
        l->failed = true;
    }
    tower->heads = (int)(d / HEAD_WIDTH);
    while (tower->layer_count < LAYERS_MAX && !l->failed &&
           loader_has(l, "%s.layers.%d.attn.norm.weight", side, tower->layer_count)) {
        int i = tower->layer_count++;
        tower->layers = xrealloc(tower->layers, (size_t)(i + 1) * sizeof *tower->layers);
        tower->layers[i] = (struct layer){0};
        snprintf(prefix, sizeof prefix, "%s.layers.%d", side, i);
        load_layer(l, &tower->layers[i], d, prefix);
    }
    tower->projection = load_linear(l, *embed_width, d, side, "proj");
    if (!l->failed)
        *embed_width = tower->projection.weight->shape[0];
}

static void load_image_tower(struct cloob *c)
{
    struct loader *l = &c->loader;
    struct tower *tower = &c->image;
    tower->embed = loader_get(l, DIMS(-1, -1, -1, -1), "image_encoder.embed.weight");
    if (!tower->embed)
        return;
    int64_t d = tower->embed->shape[0];
    tower->class_embed = loader_get_f32(l, DIMS(d), "image_encoder.class_embed");
    load_tower(l, tower, d, &c->sizes.embed_width, "image_encoder");
    if (l->failed)
        return;
    c->sizes.patch_size = tower->embed->shape[2];
    int64_t side = 0, patches = tower->positions->shape[0] - 1;
    while (side * side < patches)
        side++;
    c->sizes.image_size = side * c->sizes.patch_size;
    if (side * side != patches || side == 0 || tower->embed->shape[1] != 3 ||
        tower->embed->shape[3] != c->sizes.patch_size) {
        error_set(l->error, "'image_encoder' does not take square RGB pictures in square patches");
        l->failed = true;
    }
}

static void load_text_tower(struct cloob *c)
{
    struct loader *l = &c->loader;
    struct tower *tower = &c->text;
    tower->embed = loader_get(l, DIMS(-1, -1), "text_encoder.embed.weight");
    if (!tower->embed)
        return;
    c->sizes.vocabulary = tower->embed->shape[0];
    load_tower(l, tower, tower->embed->shape[1], &c->sizes.embed_width, "text_encoder");
    if (!l->failed)
        c->sizes.context = tower->positions->shape[0];
}

int cloob_load(struct cloob **out, const struct named_weights *names, struct device *d,
               struct error *e)
{
    struct cloob *c = xcalloc(1, sizeof *c);
    struct loader *l = &c->loader;
    loader_init(l, names, d, e);
    c->sizes.embed_width = -1;
    c->sizes.has_image = loader_has(l, "image_encoder.embed.weight");
    c->sizes.has_text = loader_has(l, "text_encoder.embed.weight");
    if (!c->sizes.has_image && !c->sizes.has_text) {
        error_set(e, "there is no 'image_encoder.embed.weight' and no 'text_encoder.embed.weight'");
        l->failed = true;
    }
    if (c->sizes.has_image)
        load_image_tower(c);
    if (c->sizes.has_text)
        load_text_tower(c);
    if (l->failed) {
        cloob_free(c);
        return -1;
    }
    for (int i = 0; i < names->count; i++)
        c->sizes.parameters += weight_count(&names->items[i]);
    *out = c;
    return 0;
}

void cloob_free(struct cloob *c)
{
    if (!c)
        return;
    free(c->image.layers);
    free(c->text.layers);
    loader_release(&c->loader);
    free(c);
}

struct loader *cloob_loader(struct cloob *c)
{
    return &c->loader;
}

const struct cloob_sizes *cloob_sizes(const struct cloob *c)
{
    return &c->sizes;
}

static struct tensor *run_linear(struct tape *t, const struct affine *a, struct tensor *x,
                                 enum activation_kind act)
{
    return linear(t, x, a->weight, a->bias, act);
}

/* x + attention(norm(x)); takes over the reference to x. */
static struct tensor *run_attention(struct tape *t, const struct layer *layer, struct tensor *x,
                                    int heads, struct tensor *padding)
{
    const struct affine *n = &layer->attention_norm;
    struct tensor *h = layer_norm(t, x, NORM_EPS, n->weight, n->bias);
    struct tensor *q = run_linear(t, &layer->query, h, ACTIVATION_NONE);
    struct tensor *k = run_linear(t, &layer->key, h, ACTIVATION_NONE);
    struct tensor *v = run_linear(t, &layer->value, h, ACTIVATION_NONE);
    tensor_replace(&h, attention(t, q, k, v, heads, padding));
    tensor_release(q);
    tensor_release(k);
    tensor_release(v);
    tensor_replace(&h, run_linear(t, &layer->out, h, ACTIVATION_NONE));
    tensor_replace(&x, add(t, x, h));
    tensor_release(h);
    return x;
}

/* x + feed-forward(norm(x)); takes over the reference to x. */
static struct tensor *run_feed_forward(struct tape *t, const struct layer *layer, struct tensor *x)
{
    struct tensor *h = layer_norm(t, x, NORM_EPS, layer->ff_norm.weight, layer->ff_norm.bias);
    tensor_replace(&h, run_linear(t, &layer->ff[0], h, ACTIVATION_GELU));
    tensor_replace(&h, run_linear(t, &layer->ff[1], h, ACTIVATION_NONE));
    tensor_replace(&x, add(t, x, h));
    tensor_release(h);
    return x;
}

/* The layers, then position 0, projected and normalised. Only that position is carried through the
 * last feed-forward. Takes over the reference to x. */
static struct tensor *run_tower(struct tape *t, const struct tower *tower, struct tensor *x,
                                struct tensor *padding)
{
    tensor_replace(&x, add_rows(t, x, tower->positions));
    for (int i = 0; i < tower->layer_count; i++) {
        x = run_attention(t, &tower->layers[i], x, tower->heads, padding);
        if (i == tower->layer_count - 1)
            tensor_replace(&x, take_row(t, x, 0));
        x = run_feed_forward(t, &tower->layers[i], x);
    }
    if (tower->layer_count == 0)
        tensor_replace(&x, take_row(t, x, 0));
    tensor_replace(&x, run_linear(t, &tower->projection, x, ACTIVATION_NONE));
    tensor_replace(&x, cast(t, x, DTYPE_F32));
    tensor_replace(&x, l2_normalize(t, x, 1e-12f, 1.0f));
    return x;
}

struct tensor *cloob_image(struct tape *t, const struct cloob *c, struct tensor *rgb)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
    static const float deviation[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    const struct tower *tower = &c->image;
    int64_t patch = c->sizes.patch_size, side = c->sizes.image_size / patch;
    CHECK(c->sizes.has_image && rgb->ndim == 4 && rgb->shape[1] == 3);
    CHECK(rgb->shape[2] == c->sizes.image_size && rgb->shape[3] == c->sizes.image_size);
    float scale[3], shift[3];
    for (int i = 0; i < 3; i++) {
        scale[i] = 1.0f / deviation[i];
        shift[i] = -mean[i] / deviation[i];
    }
    struct tensor *x = to_nhwc(t, rgb, scale, shift);
    tensor_replace(&x, conv2d(t, x, tower->embed, NULL, (int)patch, 0, 0));
    tensor_replace(&x, reshape(t, x, DIMS(rgb->shape[0], side * side, tower->embed->shape[0])));
    tensor_replace(&x, prepend_row(t, x, tower->class_embed));
    return run_tower(t, tower, x, NULL);
}

struct tensor *cloob_text(struct tape *t, const struct cloob *c, const int32_t *tokens, int64_t n)
{
    const struct tower *tower = &c->text;
    int64_t s = c->sizes.context;
    int32_t end = (int32_t)(c->sizes.vocabulary - 1);
    CHECK(c->sizes.has_text);
    size_t bytes = (size_t)(n * s) * sizeof *tokens;
    int32_t *behind = xmalloc(bytes);
    for (int64_t i = 0; i < n; i++) {
        int32_t seen = 0;
        for (int64_t j = 0; j < s; j++) {
            int32_t id = tokens[i * s + j];
            CHECK(id >= 0 && id <= end);
            behind[i * s + j] = seen;
            seen |= id == end;
        }
    }
    struct device *d = t->device;
    struct tensor *ids = tensor_new(d, DTYPE_I32, DIMS(n, s));
    struct tensor *padding = tensor_new(d, DTYPE_I32, DIMS(n, s));
    d->backend->upload(d, ids->data, tokens, bytes);
    d->backend->upload(d, padding->data, behind, bytes);
    free(behind);
    struct tensor *x = embedding(t, ids, tower->embed);
    tensor_release(ids);
    x = run_tower(t, tower, x, padding);
    tensor_release(padding);
    return x;
}
