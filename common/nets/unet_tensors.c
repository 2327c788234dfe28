/* The U-Net's tensors: listing them for a config, loading and describing them from a file. Names
 * are indices into the reference's nested Sequentials. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/nets/description.h"
#include "common/nets/unet_internal.h"

#define MAPPING_FEATURES  128
#define TIMESTEP_FEATURES 16
/* Conv blocks of a level before, and again after, the level below; all of the lowest level's. */
#define SIDE_BLOCKS   4
#define LOWEST_BLOCKS 8

static const char autoencoder_scale[] = "autoencoder_scale",
                  timestep_weights[] = "timestep_embed.weight",
                  mapping_timestep_weights[] = "mapping_timestep_embed.weight";

const struct unet_config unet_published = {
    .latent_channels = 4,
    .embed_width = 512,
    .base_channels = 192,
    .multipliers = {4, 4, 8, 8},
    .cond_width = UNET_COND_WIDTH,
    .autoencoder_scale = 8.0779,
};

enum tensor_kind unet_tensor_kind(const char *name)
{
    if (strcmp(name, autoencoder_scale) == 0)
        return TENSOR_SCALAR;
    bool fourier =
        strcmp(name, timestep_weights) == 0 || strcmp(name, mapping_timestep_weights) == 0;
    return fourier ? TENSOR_FIXED : TENSOR_TRAINED;
}

/* last: the network's last block ends with its second convolution. */
static void add_conv_block(struct architecture *a, int64_t in, int64_t mid, int64_t out,
                           int64_t cond, bool last, const char *prefix)
{
    architecture_add_conv(a, in, mid, 3, "%s.main.0", prefix);
    architecture_add(a, DIMS(2 * mid, cond), "%s.main.2.layer.weight", prefix);
    architecture_add_conv(a, mid, out, 3, "%s.main.4", prefix);
    if (!last)
        architecture_add(a, DIMS(2 * out, cond), "%s.main.6.layer.weight", prefix);
    if (in != out)
        architecture_add(a, DIMS(out, in, 1, 1), "%s.skip.weight", prefix);
}

static void load_conv_block(struct unet *u, struct module *m, int64_t *channels, const char *prefix)
{
    struct loader *l = &u->loader;
    m->kind = MODULE_CONV_BLOCK;
    int64_t width = *channels;
    for (int i = 0; i < 2; i++) {
        int at = 4 * i;
        struct tensor *w = loader_get(l, DIMS(-1, width, 3, 3), "%s.main.%d.weight", prefix, at);
        if (!w)
            return;
        width = w->shape[0];
        m->conv.weight[i] = w;
        m->conv.bias[i] = loader_get_f32(l, DIMS(width), "%s.main.%d.bias", prefix, at);
        if (i == 0 || loader_has(l, "%s.main.%d.layer.weight", prefix, at + 2))
            m->conv.modulation[i] = loader_get(l, DIMS(2 * width, u->cond_width),
                                               "%s.main.%d.layer.weight", prefix, at + 2);
    }
    if (width != *channels)
        m->conv.skip = loader_get(l, DIMS(width, *channels, 1, 1), "%s.skip.weight", prefix);
    *channels = width;
}

static void add_attention(struct architecture *a, int64_t c, const char *prefix)
{
    architecture_add_norm(a, c, "%s.norm", prefix);
    architecture_add_conv(a, c, 3 * c, 1, "%s.qkv_proj", prefix);
    architecture_add_conv(a, c, c, 1, "%s.out_proj", prefix);
}

static void load_attention(struct unet *u, struct module *m, int64_t c, const char *prefix)
{
    struct loader *l = &u->loader;
    m->kind = MODULE_ATTENTION;
    m->attention.gamma = loader_get_f32(l, DIMS(c), "%s.norm.weight", prefix);
    m->attention.beta = loader_get_f32(l, DIMS(c), "%s.norm.bias", prefix);
    m->attention.qkv = loader_get(l, DIMS(3 * c, c, 1, 1), "%s.qkv_proj.weight", prefix);
    m->attention.qkv_bias = loader_get_f32(l, DIMS(3 * c), "%s.qkv_proj.bias", prefix);
    m->attention.out = loader_get(l, DIMS(c, c, 1, 1), "%s.out_proj.weight", prefix);
    m->attention.out_bias = loader_get_f32(l, DIMS(c), "%s.out_proj.bias", prefix);
    m->attention.heads = (int)(c / HEAD_WIDTH);
    if (c % HEAD_WIDTH)
        loader_fail(l, "'%s.qkv_proj.weight': %" PRId64 " channels are not a multiple of %d",
                    prefix, c, HEAD_WIDTH);
}

/* `blocks` conv blocks of c channels, numbered from `index`, each followed by attention if the
 * level has it; the first takes `in` channels, the last returns `out`. Returns the next index. */
static int add_blocks(struct architecture *a, int index, int blocks, int64_t in, int64_t c,
                      int64_t out, int64_t cond, bool attention, bool last_of_all, const char *path)
{
    char name[100];
    for (int i = 0; i < blocks; i++) {
        bool end = i == blocks - 1;
        snprintf(name, sizeof name, "%s.%d", path, index++);
        add_conv_block(a, i ? c : in, c, end ? out : c, cond, end && last_of_all, name);
        if (attention) {
            snprintf(name, sizeof name, "%s.%d", path, index++);
            add_attention(a, end ? out : c, name);
        }
    }
    return index;
}

/* The module in the middle of a level is the level below. */
static void add_level(struct architecture *a, const struct unet_config *o, int level,
                      const char *path)
{
    bool top = level == 0;
    int index = top ? 0 : 1; /* below the top, 0 is the downsampling */
    int64_t cond = o->cond_width, c = o->base_channels * o->multipliers[level];
    int64_t above = top ? o->latent_channels : o->base_channels * o->multipliers[level - 1];
    int64_t in = top ? above + TIMESTEP_FEATURES : above;
    if (level == UNET_LEVELS - 1) {
        add_blocks(a, index, LOWEST_BLOCKS, in, c, above, cond, true, false, path);
        return;
    }
    index = add_blocks(a, index, SIDE_BLOCKS, in, c, c, cond, !top, false, path);
    char inner[100];
    snprintf(inner, sizeof inner, "%s.%d.main", path, index++);
    add_level(a, o, level + 1, inner);
    add_blocks(a, index, SIDE_BLOCKS, 2 * c, c, above, cond, !top, top, path);
}

static struct module *append(struct module_list *list)
{
    list->items = xrealloc(list->items, (size_t)(list->count + 1) * sizeof *list->items);
    list->items[list->count] = (struct module){0};
    return &list->items[list->count++];
}

/* A module's names tell its kind. Downsampling and upsampling have no parameters and no names: they
 * are the first and the last module of every inner list. */
static void load_modules(struct unet *u, struct module_list *list, int64_t *channels,
                         const char *prefix, int depth)
{
    struct loader *l = &u->loader;
    if (depth > 0)
        append(list)->kind = MODULE_DOWN;
    if ((1 << depth) > u->sizes.side_multiple)
        u->sizes.side_multiple = 1 << depth;
    for (int i = depth > 0; !l->failed; i++) {
        char name[200];
        snprintf(name, sizeof name, "%s.%d", prefix, i);
        if (loader_has(l, "%s.qkv_proj.weight", name)) {
            load_attention(u, append(list), *channels, name);
        } else if (loader_has(l, "%s.main.0.weight", name)) {
            load_conv_block(u, append(list), channels, name);
        } else if (loader_has(l, "%s.main.1.main.0.weight", name) && depth < 16) {
            struct module_list inner = {0};
            int64_t inside = *channels;
            char below[210];
            snprintf(below, sizeof below, "%s.main", name);
            load_modules(u, &inner, &inside, below, depth + 1);
            struct module *m = append(list);
            m->kind = MODULE_SKIP;
            m->inner = inner;
            *channels += inside;
        } else {
            break;
        }
    }
    if (depth > 0)
        append(list)->kind = MODULE_UP;
}

/* Residual blocks of linear layers; only a change of width needs a matrix for the skip. */
static void add_mapping(struct architecture *a, const struct unet_config *c)
{
    int64_t in = c->embed_width + MAPPING_FEATURES;
    for (int i = 0; i < 2; i++) {
        architecture_add_linear(a, in, c->cond_width, "mapping.%d.main.0", i);
        architecture_add_linear(a, c->cond_width, c->cond_width, "mapping.%d.main.2", i);
        if (in != c->cond_width)
            architecture_add(a, DIMS(c->cond_width, in), "mapping.%d.skip.weight", i);
        in = c->cond_width;
    }
}

static void load_mapping(struct unet *u)
{
    struct loader *l = &u->loader;
    u->mapping_timestep = loader_get_f32(l, DIMS(-1, 1), "%s", mapping_timestep_weights);
    struct tensor *first = loader_get(l, DIMS(-1, -1), "mapping.0.main.0.weight");
    if (!first || !u->mapping_timestep)
        return;
    int64_t width = first->shape[1];
    u->sizes.embed_width = width - 2 * u->mapping_timestep->shape[0];
    if (u->sizes.embed_width <= 0) {
        loader_fail(l, "'mapping.0.main.0.weight' is too narrow for an embedding");
        return;
    }
    for (int i = 0; i < MAPPING_MAX && loader_has(l, "mapping.%d.main.0.weight", i); i++) {
        struct mapping_block *b = &u->mapping[u->mapping_count++];
        int64_t from = width;
        for (int j = 0; j < 2; j++) {
            b->weight[j] = loader_get(l, DIMS(-1, width), "mapping.%d.main.%d.weight", i, 2 * j);
            if (!b->weight[j])
                return;
            width = b->weight[j]->shape[0];
            b->bias[j] = loader_get_f32(l, DIMS(width), "mapping.%d.main.%d.bias", i, 2 * j);
        }
        if (width != from)
            b->skip = loader_get(l, DIMS(width, from), "mapping.%d.skip.weight", i);
    }
    u->cond_width = width;
}

int unet_config_check(const struct unet_config *c, struct error *e)
{
    if (c->latent_channels < 1 || c->embed_width < 1 || c->cond_width < 1)
        return error_set(e, "widths must be positive");
    for (int i = 0; i < UNET_LEVELS; i++) {
        int64_t channels = c->base_channels * c->multipliers[i];
        if (channels < HEAD_WIDTH || channels % HEAD_WIDTH)
            return error_set(
                e, "U-Net channels must be multiples of %d: %" PRId64 " * %" PRId64 " is not",
                HEAD_WIDTH, c->base_channels, c->multipliers[i]);
    }
    return 0;
}

void unet_architecture(struct architecture *a, const struct unet_config *c)
{
    struct error e;
    CHECK(unet_config_check(c, &e) == 0);
    architecture_add_scalar(a, autoencoder_scale, c->autoencoder_scale);
    architecture_add(a, DIMS(MAPPING_FEATURES / 2, 1), "%s", mapping_timestep_weights)->kind =
        TENSOR_FIXED;
    add_mapping(a, c);
    architecture_add(a, DIMS(TIMESTEP_FEATURES / 2, 1), "%s", timestep_weights)->kind =
        TENSOR_FIXED;
    add_level(a, c, 0, "net");
}

struct modulations {
    struct tensor **matrices;
    int64_t **rows; /* where each module keeps the row at which its matrix begins */
    int count;
};

static void find_modulations(struct modulations *m, struct module_list *list)
{
    for (int i = 0; i < list->count; i++) {
        struct module *module = &list->items[i];
        if (module->kind == MODULE_SKIP)
            find_modulations(m, &module->inner);
        for (int j = 0; module->kind == MODULE_CONV_BLOCK && j < 2; j++) {
            module->conv.modulation_row[j] = -1;
            if (!module->conv.modulation[j])
                continue;
            size_t count = (size_t)m->count + 1;
            m->matrices = xrealloc(m->matrices, count * sizeof *m->matrices);
            m->rows = xrealloc(m->rows, count * sizeof *m->rows);
            m->matrices[m->count] = module->conv.modulation[j];
            m->rows[m->count++] = &module->conv.modulation_row[j];
        }
    }
}

/* All modulations are functions of the same vector: one product if memory allows. */
static void stack_modulations(struct unet *u)
{
    struct modulations m = {0};
    find_modulations(&m, &u->net);
    int64_t *rows = xcalloc((size_t)m.count + 1, sizeof *rows);
    if (m.count > 0)
        u->modulations = loader_stack(&u->loader, m.matrices, m.count, rows);
    for (int i = 0; i < m.count && u->modulations; i++)
        *m.rows[i] = rows[i];
    free(rows);
    free(m.rows);
    free(m.matrices);
}

int unet_load(struct unet **out, const struct named_weights *names, struct device *d,
              struct error *e)
{
    struct unet *u = xcalloc(1, sizeof *u);
    struct loader *l = &u->loader;
    loader_init(l, names, d, e);
    load_mapping(u);
    u->timestep = loader_get_f32(l, DIMS(-1, 1), "%s", timestep_weights);
    struct tensor *first = loader_get(l, DIMS(-1, -1, 3, 3), "net.0.main.0.weight");
    if (!l->failed) {
        int64_t channels = first->shape[1];
        u->sizes.latent_channels = channels - 2 * u->timestep->shape[0];
        load_modules(u, &u->net, &channels, "net", 0);
        if (channels != u->sizes.latent_channels || channels <= 0)
            loader_fail(l, "the last layer returns %" PRId64 " channels, but a latent has %" PRId64,
                        channels, u->sizes.latent_channels);
    }
    if (l->failed) {
        unet_free(u);
        return -1;
    }
    stack_modulations(u);
    u->sizes.parameters = architecture_parameters(names, unet_tensor_kind);
    double scale;
    if (names_scalar(names, autoencoder_scale, &scale))
        u->sizes.autoencoder_scale = scale;
    *out = u;
    return 0;
}

#define DESCRIBED_LEVELS_MAX 16

/* Reads the width of each level's first convolution. */
int unet_describe(struct description *d, const struct named_weights *names, struct error *e)
{
    char path[200] = "net";
    int64_t channels[DESCRIBED_LEVELS_MAX];
    int levels = 0;
    bool divisible = true;
    while (levels < DESCRIBED_LEVELS_MAX) {
        const struct weight *first =
            description_find(names, 4, "%s.%d.main.0.weight", path, levels > 0);
        if (!first)
            break;
        channels[levels] = first->shape[0];
        divisible &= 4 * channels[levels] % channels[0] == 0;
        strcat(path, levels == 0 ? ".4.main" : ".9.main");
        levels++;
    }
    if (levels == 0)
        return error_set(e, "tensor 'net.0.main.0.weight' is missing or unusable");
    /* Shapes tell only products; the first multiplier of published models is 4. */
    if (divisible && channels[0] % 4 == 0) {
        int64_t base = channels[0] / 4;
        for (int i = 0; i < levels; i++)
            channels[i] = channels[i] / base;
        description_add(d, "U-Net, base %" PRId64 ", multipliers ", base);
    } else {
        description_add(d, "U-Net, channels ");
    }
    description_add_list(d, channels, levels);
    return 0;
}
