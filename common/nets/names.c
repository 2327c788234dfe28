#include "common/nets/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"

#define NAME_BYTES 256

enum style { STYLE_OURS, STYLE_DIFFUSERS, STYLE_HAIKU, STYLE_SLICES };

/* How files name a network's tensors. A file that holds the tensor `marker`, after the prefix, uses
 * this naming; the first row that matches wins. */
struct naming {
    enum net net;
    const char *prefix, *marker;
    enum style style;
    bool ema;
    const char *description;
};

#define HAIKU_MARKER "/layer_0/self_attention/multi_head_attention/query.w"

static const struct naming namings[] = {
    {NET_UNET, "model_ema.", "net.0.main.0.weight", STYLE_OURS, true,
     "Lightning names, EMA weights"},
    {NET_UNET, "model.", "net.0.main.0.weight", STYLE_OURS, false, "Lightning names, raw weights"},
    {NET_UNET, "", "net.0.main.0.weight", STYLE_OURS, false, "plain names"},
    {NET_KL, "", "encoder.down.0.block.0.conv1.weight", STYLE_OURS, false, "CompVis names"},
    {NET_KL, "", "decoder.up.0.block.0.conv1.weight", STYLE_OURS, false, "CompVis names"},
    {NET_KL, "first_stage_model.", "encoder.down.0.block.0.conv1.weight", STYLE_OURS, false,
     "latent diffusion checkpoint, its first stage"},
    {NET_KL, "first_stage_model.", "decoder.up.0.block.0.conv1.weight", STYLE_OURS, false,
     "latent diffusion checkpoint, its first stage"},
    {NET_KL, "", "encoder.down_blocks.0.resnets.0.conv1.weight", STYLE_DIFFUSERS, false,
     "diffusers names"},
    {NET_KL, "", "decoder.up_blocks.0.resnets.0.conv1.weight", STYLE_DIFFUSERS, false,
     "diffusers names"},
    {NET_KL, "vae.", "encoder.down_blocks.0.resnets.0.conv1.weight", STYLE_DIFFUSERS, false,
     "diffusers names"},
    {NET_CLOOB, "", "image_encoder.layers.0.attn.query.weight", STYLE_OURS, false, "PyTorch names"},
    {NET_CLOOB, "", "text_encoder.layers.0.attn.query.weight", STYLE_OURS, false, "PyTorch names"},
    {NET_CLOOB, "params.0.", "vi_t_image_encoder" HAIKU_MARKER, STYLE_HAIKU, false, "haiku names"},
    {NET_CLOOB, "params.1.", "text_encoder" HAIKU_MARKER, STYLE_HAIKU, false, "haiku names"},
    {NET_CLOOB, "0.", "vi_t_image_encoder" HAIKU_MARKER, STYLE_HAIKU, false, "haiku names"},
    {NET_CLOOB, "1.", "text_encoder" HAIKU_MARKER, STYLE_HAIKU, false, "haiku names"},
    {NET_LPIPS, "", "features.0.weight", STYLE_OURS, false, "torchvision names"},
    {NET_LPIPS, "", "net.slice1.0.weight", STYLE_SLICES, false, "LPIPS names"},
    {NET_LPIPS, "loss.perceptual_loss.", "net.slice1.0.weight", STYLE_SLICES, false,
     "autoencoder checkpoint, its loss"},
    {NET_DISCRIMINATOR, "", "main.0.weight", STYLE_OURS, false, "PatchGAN names"},
    {NET_DISCRIMINATOR, "loss.discriminator.", "main.0.weight", STYLE_OURS, false,
     "autoencoder checkpoint, its discriminator"},
};
#define NAMING_COUNT (sizeof namings / sizeof *namings)

static const char *net_name(enum net net)
{
    static const char *const names[] = {[NET_UNET] = "a U-Net",
                                        [NET_KL] = "a KL autoencoder",
                                        [NET_CLOOB] = "a CLOOB",
                                        [NET_LPIPS] = "an LPIPS network",
                                        [NET_DISCRIMINATOR] = "a PatchGAN discriminator"};
    return names[net];
}

static bool has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool fits(const struct naming *n, const struct weights *w)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%s", n->prefix, n->marker);
    return weights_find(w, name) != NULL;
}

int names_detect(enum net *net, const struct weights *w, struct error *e)
{
    for (size_t i = 0; i < NAMING_COUNT; i++) {
        if (fits(&namings[i], w)) {
            *net = namings[i].net;
            return 0;
        }
    }
    return error_set(e,
                     "its tensors do not belong to a U-Net, KL autoencoder, CLOOB, LPIPS network "
                     "or PatchGAN discriminator");
}

static const struct naming *choose(const struct weights *w, enum net net, enum weights_pick pick,
                                   struct error *e)
{
    const struct naming *ema = NULL, *raw = NULL;
    for (size_t i = 0; i < NAMING_COUNT; i++) {
        const struct naming *n = &namings[i];
        const struct naming **slot = n->ema ? &ema : &raw;
        if (n->net == net && !*slot && fits(n, w))
            *slot = n;
    }
    if (pick == PICK_RAW && ema && !raw) {
        error_set(e, "it holds EMA weights only");
        return NULL;
    }
    const struct naming *chosen = pick == PICK_EMA && ema ? ema : raw;
    enum net other;
    if (!chosen && names_detect(&other, w, e) == 0)
        error_set(e, "it holds %s, not %s", net_name(other), net_name(net));
    return chosen;
}

/* Whether a name, without its prefix, belongs to one of the network's own modules. */
static bool is_ours(enum net net, const char *name)
{
    static const char *const parts[][6] = {
        [NET_UNET] = {"net.", "mapping.", "mapping_timestep_embed.", "timestep_embed.",
                      "autoencoder_scale"},
        [NET_KL] = {"encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "norm_groups"},
        [NET_CLOOB] = {"image_encoder.", "text_encoder."},
        [NET_LPIPS] = {"features.", "lin0.", "lin1.", "lin2.", "lin3.", "lin4."},
        [NET_DISCRIMINATOR] = {"main."},
    };
    if (net == NET_DISCRIMINATOR && (strstr(name, ".running_") || strstr(name, ".num_batches_")))
        return false;
    for (int i = 0; i < 6 && parts[net][i]; i++)
        if (has_prefix(name, parts[net][i]))
            return true;
    return false;
}

/* A name under construction; one that is too long matches nothing. */
struct name {
    char text[NAME_BYTES];
    size_t size;
    bool overflow;
};

static void put(struct name *n, const char *text, size_t size)
{
    if (size >= NAME_BYTES - n->size) {
        n->overflow = true;
        return;
    }
    memcpy(n->text + n->size, text, size);
    n->size += size;
    n->text[n->size] = 0;
}

/* Replacement for one word of a path; an empty one removes it. */
struct word {
    const char *from, *to;
};

static const char *translate(const struct word *words, const char *part, size_t size)
{
    for (; words->from; words++)
        if (strlen(words->from) == size && memcmp(words->from, part, size) == 0)
            return words->to;
    return NULL;
}

/* diffusers' AutoencoderKL: blocks are named by kind, and the decoder's are numbered from the other
 * end. Attention names changed in 2023; both are accepted. */
static void map_diffusers(struct name *out, const char *name, int up_blocks)
{
    static const struct word words[] = {
        {"down_blocks", "down"},
        {"up_blocks", "up"},
        {"mid_block", "mid"},
        {"resnets", "block"},
        {"downsamplers", "downsample"},
        {"upsamplers", "upsample"},
        {"attentions", "attn"},
        {"conv_norm_out", "norm_out"},
        {"conv_shortcut", "nin_shortcut"},
        {"group_norm", "norm"},
        {"to_q", "q"},
        {"to_k", "k"},
        {"to_v", "v"},
        {"to_out", "proj_out"},
        {"query", "q"},
        {"key", "k"},
        {"value", "v"},
        {"proj_attn", "proj_out"},
        {NULL, NULL},
    };
    bool middle = strstr(name, ".mid_block.");
    bool numbered_from_end = false, drop_number = false, join_number = false;
    for (const char *p = name; *p;) {
        size_t size = strcspn(p, ".");
        char digits[16];
        const char *word = translate(words, p, size);
        bool number = *p >= '0' && *p <= '9' && size < 4;
        if (drop_number && number) { /* downsamplers.0, to_out.0: there is only one */
            drop_number = false;
        } else if (join_number && number) { /* mid.resnets.0 is mid.block_1 */
            snprintf(digits, sizeof digits, "_%d", atoi(p) + 1);
            put(out, digits, strlen(digits));
            join_number = false;
        } else {
            if (numbered_from_end && number) {
                snprintf(digits, sizeof digits, "%d", up_blocks - 1 - atoi(p));
                word = digits;
            }
            if (p != name)
                put(out, ".", 1);
            put(out, word ? word : p, word ? strlen(word) : size);
            numbered_from_end = size == 9 && memcmp(p, "up_blocks", 9) == 0;
            drop_number = word && (has_suffix(word, "sample") || strcmp(word, "proj_out") == 0);
            join_number =
                word && middle && (strcmp(word, "block") == 0 || strcmp(word, "attn") == 0);
        }
        p += size;
        p += *p == '.';
    }
}

/* haiku's `module/path.parameter`; module names as in cloob_training/model.py. */
static void map_haiku(struct name *out, const char *name)
{
    static const struct word words[] = {
        {"vi_t_image_encoder", "image_encoder"},
        {"self_attention", "attn"},
        {"feed_forward", "ff"},
        {"layer_norm", "norm"},
        {"multi_head_attention", ""},
        {"linear", "out"},
        {"~", ""},
        {NULL, NULL},
    };
    static const struct word parameters[] = {
        {"w", "weight"},          {"b", "bias"}, {"scale", "weight"}, {"offset", "bias"},
        {"embeddings", "weight"}, {NULL, NULL},
    };
    for (const char *p = name; *p;) {
        size_t size = strcspn(p, "/.");
        bool is_parameter = p != name && p[-1] == '.';
        const char *word = translate(is_parameter ? parameters : words, p, size);
        if (!is_parameter && size > 6 && memcmp(p, "layer_", 6) == 0 && p[6] >= '0' &&
            p[6] <= '9') {
            put(out, ".layers.", 8);
            put(out, p + 6, size - 6);
        } else if (!word || *word) {
            if (p != name)
                put(out, ".", 1);
            put(out, word ? word : p, word ? strlen(word) : size);
        }
        p += size;
        p += *p != 0;
    }
}

/* LPIPS's VGG16, cut into slices whose layers keep their number in the whole network. The channel
 * weights are layer 1, after a dropout layer, or layer 0 without one. */
static void map_slices(struct name *out, const char *name)
{
    static const char slice[] = "net.slice", lin[] = "lin";
    if (has_prefix(name, slice) && strchr(name + strlen(slice), '.')) {
        put(out, "features", 8);
        name = strchr(name + strlen(slice), '.');
    } else if (has_prefix(name, lin) && has_suffix(name, ".model.0.weight")) {
        put(out, name, strcspn(name, "."));
        name = ".model.1.weight";
    }
    put(out, name, strlen(name));
}

static void permute(struct weight *t, const int *order)
{
    struct weight old = *t;
    for (int i = 0; i < t->ndim; i++) {
        t->shape[i] = old.shape[order[i]];
        t->stride[i] = old.stride[order[i]];
    }
    weight_update_contiguous(t);
}

/* Matrices are [in, out] in haiku and [out, in] in torch, kernels [h, w, in, out] and [out, in, h,
 * w]. Tables (positions, embeddings) are the same in both. */
static void reshape_haiku(struct weight *t)
{
    if (t->ndim == 4)
        permute(t, (const int[]){3, 2, 0, 1});
    else if (t->ndim == 2 && !has_suffix(t->name, "embed.weight"))
        permute(t, (const int[]){1, 0});
}

/* Attention matrices are 1x1 convolutions under our names. */
static void reshape_diffusers(struct weight *t)
{
    static const char *const suffixes[] = {".q.weight", ".k.weight", ".v.weight",
                                           ".proj_out.weight"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (t->ndim == 2 && has_suffix(t->name, suffixes[i])) {
            t->ndim = 4;
            t->shape[2] = t->shape[3] = t->stride[2] = t->stride[3] = 1;
        }
    }
}

static int count_up_blocks(const struct weights *w, const char *prefix)
{
    char start[NAME_BYTES];
    int count = 0;
    snprintf(start, sizeof start, "%sdecoder.up_blocks.", prefix);
    for (int i = 0; i < weights_count(w); i++) {
        const char *name = weights_at(w, i)->name;
        int number = has_prefix(name, start) ? atoi(name + strlen(start)) : -1;
        count = number >= count && number < 1000 ? number + 1 : count;
    }
    return count;
}

/* The haiku prefix differs between the towers: `params.0.`, `params.1.`. */
static const char *skip_haiku_prefix(const char *name)
{
    if (has_prefix(name, "params."))
        name += strlen("params.");
    return (name[0] == '0' || name[0] == '1') && name[1] == '.' ? name + 2 : NULL;
}

static const char *skip_prefix(const struct naming *naming, const char *name)
{
    if (naming->style == STYLE_HAIKU)
        return skip_haiku_prefix(name);
    return has_prefix(name, naming->prefix) ? name + strlen(naming->prefix) : NULL;
}

/* Whether the file has a scale that this tensor's elements must be multiplied by, as quantized
 * models do: those of ComfyUI, compressed-tensors, DeepSeek and quanto. */
static bool is_scaled(const struct weights *w, const struct weight *t)
{
    static const char weight[] = "weight";
    static const char *const scales[] = {"scale_weight", "weight_scale", "weight_scale_inv",
                                         "weight._scale"};
    char name[NAME_BYTES];
    size_t size = strlen(t->name), stem = size - strlen(weight);
    if (t->unreadable || dtype_size(t->dtype) != 1 || !has_suffix(t->name, weight))
        return false;
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        int length = snprintf(name, sizeof name, "%.*s%s", (int)stem, t->name, scales[i]);
        if ((size_t)length < sizeof name && weights_find(w, name))
            return true;
    }
    return false;
}

static void add(struct named_weights *out, const struct weights *w, const struct weight *t,
                const struct naming *naming, int up_blocks)
{
    struct name name = {0};
    const char *rest = skip_prefix(naming, t->name);
    if (!rest)
        return;
    if (naming->style == STYLE_OURS)
        put(&name, rest, strlen(rest));
    else if (naming->style == STYLE_DIFFUSERS)
        map_diffusers(&name, rest, up_blocks);
    else if (naming->style == STYLE_SLICES)
        map_slices(&name, rest);
    else
        map_haiku(&name, rest);
    if (name.overflow || !is_ours(out->net, name.text))
        return;
    struct weight *item = &out->items[out->count++];
    *item = *t;
    item->name = arena_text(&out->arena, name.text, name.size);
    if (is_scaled(w, t)) {
        char type[64];
        int length = snprintf(type, sizeof type, "%s with a scale", weight_type(t));
        item->unreadable = arena_text(&out->arena, type, (size_t)length);
        item->contiguous = false;
    }
    if (naming->style == STYLE_HAIKU)
        reshape_haiku(item);
    else if (naming->style == STYLE_DIFFUSERS)
        reshape_diffusers(item);
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(((const struct weight *)a)->name, ((const struct weight *)b)->name);
}

int names_resolve(struct named_weights *out, const struct weights *w, enum net net,
                  enum weights_pick pick, struct error *e)
{
    *out = (struct named_weights){.net = net};
    const struct naming *naming = choose(w, net, pick, e);
    if (!naming)
        return -1;
    out->ema = naming->ema;
    out->foreign = naming->style != STYLE_OURS;
    snprintf(out->description, sizeof out->description, "%s", naming->description);
    int up_blocks = count_up_blocks(w, naming->prefix);
    out->items = xcalloc((size_t)weights_count(w) + 1, sizeof *out->items);
    for (int i = 0; i < weights_count(w); i++)
        add(out, w, weights_at(w, i), naming, up_blocks);
    qsort(out->items, (size_t)out->count, sizeof *out->items, compare_items);
    for (int i = 1; i < out->count; i++) {
        if (compare_items(&out->items[i - 1], &out->items[i]) == 0) {
            error_set(e, "two tensors are named '%.100s'", out->items[i].name);
            names_release(out);
            return -1;
        }
    }
    const struct weight *scale = weights_find(w, "scale_factor");
    float factor;
    if (net == NET_KL && scale && weight_is_real(scale) && weight_count(scale) == 1) {
        weight_to_f32(scale, &factor);
        out->scale_factor = factor;
    }
    return 0;
}

void names_release(struct named_weights *n)
{
    free(n->items);
    arena_release(&n->arena);
    *n = (struct named_weights){.net = n->net};
}

const struct weight *names_find(const struct named_weights *n, const char *name)
{
    struct weight wanted = {.name = name};
    if (n->count == 0)
        return NULL;
    return bsearch(&wanted, n->items, (size_t)n->count, sizeof wanted, compare_items);
}

int names_check_type(const struct weight *t, struct error *e)
{
    return weight_is_real(t) ? 0
                             : error_set(e, "tensor '%s' is of type %.100s, which is not supported",
                                         t->name, weight_type(t));
}

int names_get(const struct weight **t, const struct named_weights *n, const char *name, int ndim,
              const int64_t *shape, struct error *e)
{
    *t = names_find(n, name);
    if (!*t)
        return error_set(e, "tensor '%s' is missing", name);
    if (names_check_type(*t, e) != 0)
        return -1;
    bool same = (*t)->ndim == ndim;
    for (int i = 0; same && i < ndim; i++)
        same = shape[i] < 0 || shape[i] == (*t)->shape[i];
    if (same)
        return 0;
    char is[100], wanted[100];
    weight_print_shape(is, sizeof is, (*t)->ndim, (*t)->shape);
    weight_print_shape(wanted, sizeof wanted, ndim, shape);
    return error_set(e, "tensor '%s' is %s, not %s", name, is, wanted);
}

bool names_scalar(const struct named_weights *n, const char *name, double *value)
{
    if (strcmp(name, "scale_factor") == 0) {
        *value = n->scale_factor;
        return n->scale_factor != 0;
    }
    const struct weight *t = names_find(n, name);
    float f;
    if (!t || !weight_is_real(t) || weight_count(t) != 1)
        return false;
    weight_to_f32(t, &f);
    *value = f;
    return true;
}
