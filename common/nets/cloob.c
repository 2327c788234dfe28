#include "common/nets/cloob.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/nets/description.h"

#define NORM_EPS   1e-5f
#define LAYERS_MAX 128

static const char image_encoder[] = "image_encoder", text_encoder[] = "text_encoder";

const struct cloob_config cloob_published = {
    .embed_width = 512,
    .image_size = 224,
    .patch_size = 16,
    .image_width = 768,
    .image_layers = 12,
    .context = 77,
    .vocabulary = 49408,
    .text_width = 512,
    .text_layers = 12,
};

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

static void add_layer(struct architecture *a, int64_t d, const char *prefix)
{
    architecture_add_norm(a, d, "%s.attn.norm", prefix);
    architecture_add_linear(a, d, d, "%s.attn.query", prefix);
    architecture_add_linear(a, d, d, "%s.attn.key", prefix);
    architecture_add_linear(a, d, d, "%s.attn.value", prefix);
    architecture_add_linear(a, d, d, "%s.attn.out", prefix);
    architecture_add_norm(a, d, "%s.ff.norm", prefix);
    architecture_add_linear(a, d, 4 * d, "%s.ff.linear_0", prefix);
    architecture_add_linear(a, 4 * d, d, "%s.ff.linear_1", prefix);
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

/* The part of a tower after its embedding; d: the tower's width. */
static void add_tower(struct architecture *a, int64_t positions, int64_t d, int64_t layers,
                      int64_t embed_width, const char *side)
{
    char prefix[80];
    architecture_add(a, DIMS(positions, d), "%s.pos_embed.weight", side);
    for (int64_t i = 0; i < layers; i++) {
        snprintf(prefix, sizeof prefix, "%s.layers.%" PRId64, side, i);
        add_layer(a, d, prefix);
    }
    architecture_add_linear(a, d, embed_width, "%s.proj", side);
}

static int count_layers(const struct named_weights *names, const char *side)
{
    char name[80];
    for (int layers = 0; layers < LAYERS_MAX; layers++) {
        snprintf(name, sizeof name, "%s.layers.%d.attn.norm.weight", side, layers);
        if (!names_find(names, name))
            return layers;
    }
    return LAYERS_MAX;
}

static void load_tower(struct loader *l, struct tower *tower, int64_t d, int64_t *embed_width,
                       const char *side)
{
    char prefix[128];
    tower->positions = loader_get_f32(l, DIMS(-1, d), "%s.pos_embed.weight", side);
    if (d % HEAD_WIDTH)
        loader_fail(l, "'%s': width %" PRId64 " is not a multiple of %d", side, d, HEAD_WIDTH);
    tower->heads = (int)(d / HEAD_WIDTH);
    tower->layer_count = count_layers(l->names, side);
    tower->layers = xcalloc((size_t)tower->layer_count + 1, sizeof *tower->layers);
    for (int i = 0; i < tower->layer_count && !l->failed; i++) {
        snprintf(prefix, sizeof prefix, "%s.layers.%d", side, i);
        load_layer(l, &tower->layers[i], d, prefix);
    }
    tower->projection = load_linear(l, *embed_width, d, side, "proj");
    if (!l->failed)
        *embed_width = tower->projection.weight->shape[0];
}

/* Side, in patches, of the largest square image that has enough positions, one of which is the
 * class token's. */
static int64_t patch_grid_side(int64_t positions)
{
    int64_t side = 0;
    while ((side + 1) * (side + 1) < positions)
        side++;
    return side;
}

static void load_image_tower(struct cloob *c)
{
    struct loader *l = &c->loader;
    struct tower *tower = &c->image;
    tower->embed = loader_get(l, DIMS(-1, -1, -1, -1), "%s.embed.weight", image_encoder);
    if (!tower->embed)
        return;
    int64_t d = tower->embed->shape[0];
    tower->class_embed = loader_get_f32(l, DIMS(d), "%s.class_embed", image_encoder);
    load_tower(l, tower, d, &c->sizes.embed_width, image_encoder);
    if (l->failed)
        return;
    c->sizes.patch_size = tower->embed->shape[2];
    int64_t positions = tower->positions->shape[0], side = patch_grid_side(positions);
    c->sizes.image_size = side * c->sizes.patch_size;
    if (side * side + 1 != positions || side == 0 || tower->embed->shape[1] != 3 ||
        tower->embed->shape[3] != c->sizes.patch_size)
        loader_fail(l, "'%s' is not made for square RGB images in square patches", image_encoder);
}

static void load_text_tower(struct cloob *c)
{
    struct loader *l = &c->loader;
    struct tower *tower = &c->text;
    tower->embed = loader_get_table(l, "%s.embed.weight", text_encoder);
    if (!tower->embed)
        return;
    c->sizes.vocabulary = tower->embed->shape[0];
    load_tower(l, tower, tower->embed->shape[1], &c->sizes.embed_width, text_encoder);
    if (!l->failed)
        c->sizes.context = tower->positions->shape[0];
}

void cloob_architecture(struct architecture *a, const struct cloob_config *c)
{
    int64_t side = c->image_size / c->patch_size;
    CHECK(c->image_size % c->patch_size == 0);
    architecture_add(a, DIMS(c->image_width), "%s.class_embed", image_encoder);
    architecture_add(a, DIMS(c->image_width, 3, c->patch_size, c->patch_size), "%s.embed.weight",
                     image_encoder);
    add_tower(a, side * side + 1, c->image_width, c->image_layers, c->embed_width, image_encoder);
    architecture_add(a, DIMS(c->vocabulary, c->text_width), "%s.embed.weight", text_encoder);
    add_tower(a, c->context, c->text_width, c->text_layers, c->embed_width, text_encoder);
}

int cloob_load(struct cloob **out, const struct named_weights *names, struct device *d,
               struct error *e)
{
    struct cloob *c = xcalloc(1, sizeof *c);
    struct loader *l = &c->loader;
    loader_init(l, names, d, e);
    c->sizes.embed_width = -1;
    c->sizes.has_image = loader_has(l, "%s.embed.weight", image_encoder);
    c->sizes.has_text = loader_has(l, "%s.embed.weight", text_encoder);
    if (!c->sizes.has_image && !c->sizes.has_text)
        loader_fail(l, "tensors '%s.embed.weight' and '%s.embed.weight' are missing", image_encoder,
                    text_encoder);
    if (c->sizes.has_image)
        load_image_tower(c);
    if (c->sizes.has_text)
        load_text_tower(c);
    if (l->failed) {
        cloob_free(c);
        return -1;
    }
    c->sizes.parameters = architecture_parameters(names, NULL);
    *out = c;
    return 0;
}

int cloob_describe(struct description *d, const struct named_weights *names, struct error *e)
{
    const struct weight *patch = description_find(names, 4, "%s.embed.weight", image_encoder),
                        *grid = description_find(names, 2, "%s.pos_embed.weight", image_encoder),
                        *table = description_find(names, 2, "%s.embed.weight", text_encoder),
                        *context = description_find(names, 2, "%s.pos_embed.weight", text_encoder),
                        *out = description_find(names, 2, "%s.proj.weight",
                                                patch ? image_encoder : text_encoder);
    bool image = patch && grid, text = table && context;
    if ((!image && !text) || !out)
        return error_set(e, "embeddings, positions or the projection are missing or unusable");
    description_add(d, "CLOOB, embed %" PRId64, out->shape[0]);
    if (image)
        description_add(d, ", images %" PRId64 "/%" PRId64 " %d layers of %" PRId64,
                        patch_grid_side(grid->shape[0]) * patch->shape[2], patch->shape[2],
                        count_layers(names, image_encoder), patch->shape[0]);
    if (text)
        description_add(d, ", text %" PRId64 " of %" PRId64 " tokens %d layers of %" PRId64,
                        context->shape[0], table->shape[0], count_layers(names, text_encoder),
                        table->shape[1]);
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
    tensor_replace(&x, linear_add(t, x, h, layer->out.weight, layer->out.bias));
    tensor_release(h);
    return x;
}

/* x + feed-forward(norm(x)); takes over the reference to x. */
static struct tensor *run_feed_forward(struct tape *t, const struct layer *layer, struct tensor *x)
{
    struct tensor *h = layer_norm(t, x, NORM_EPS, layer->ff_norm.weight, layer->ff_norm.bias);
    tensor_replace(&h, run_linear(t, &layer->ff[0], h, ACTIVATION_GELU));
    tensor_replace(&x, linear_add(t, x, h, layer->ff[1].weight, layer->ff[1].bias));
    tensor_release(h);
    return x;
}

/* The layers, then position 0, projected and normalized. Only that position goes through the last
 * feed-forward. Takes over the reference to x. */
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

void cloob_padding(const struct cloob *c, const int32_t *tokens, int64_t n, int32_t *padding)
{
    int64_t s = c->sizes.context;
    int32_t end = (int32_t)(c->sizes.vocabulary - 1);
    for (int64_t i = 0; i < n; i++) {
        int32_t seen = 0;
        for (int64_t j = 0; j < s; j++) {
            int32_t id = tokens[i * s + j];
            CHECK(id >= 0 && id <= end);
            padding[i * s + j] = seen;
            seen |= id == end;
        }
    }
}

struct tensor *cloob_text_padded(struct tape *t, const struct cloob *c, struct tensor *ids,
                                 struct tensor *padding)
{
    CHECK(c->sizes.has_text);
    return run_tower(t, &c->text, embedding(t, ids, c->text.embed), padding);
}

struct tensor *cloob_text(struct tape *t, const struct cloob *c, const int32_t *tokens, int64_t n)
{
    int64_t s = c->sizes.context;
    int32_t *behind = xmalloc((size_t)(n * s) * sizeof *behind);
    struct tensor *ids = tensor_new(t->device, DTYPE_I32, DIMS(n, s));
    struct tensor *padding = tensor_new(t->device, DTYPE_I32, DIMS(n, s));
    cloob_padding(c, tokens, n, behind);
    tensor_upload(ids, tokens);
    tensor_upload(padding, behind);
    free(behind);
    struct tensor *x = cloob_text_padded(t, c, ids, padding);
    tensor_release(ids);
    tensor_release(padding);
    return x;
}
