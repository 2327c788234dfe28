#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/progress.h"
#include "common/nets/architecture.h"
#include "common/nets/names.h"

/* A line of text that fills up. */
struct line {
    char *text;
    size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->used, l->size - l->used, format, args);
    va_end(args);
    l->used += n > 0 ? (size_t)n : 0;
    if (l->used >= l->size)
        l->used = l->size - 1;
}

static void put_count(struct line *l, int64_t n)
{
    char count[32];
    put(l, "%s", format_count(count, n));
}

#define SIZE_LIMIT ((int64_t)1 << 24) /* of a dimension; what is beyond is no network's */

/* NULL also for a tensor of another number of dimensions or of absurd ones. */
__attribute__((format(printf, 3, 4))) static const struct weight *
find(const struct named_weights *n, int ndim, const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const struct weight *t = names_find(n, name);
    bool usable = t && t->ndim == ndim;
    for (int i = 0; usable && i < ndim; i++)
        usable = t->shape[i] > 0 && t->shape[i] < SIZE_LIMIT;
    return usable ? t : NULL;
}

static int64_t parameters(const struct named_weights *n)
{
    int64_t sum = 0;
    for (int i = 0; i < n->count; i++)
        if (tensor_kind_of(n->net, n->items[i].name) != TENSOR_SCALAR)
            sum += weight_count(&n->items[i]);
    return sum;
}

#define CHANNELS_MAX 16

/* The network is nested: each resolution is a block among the blocks of the one above. */
static int describe_unet(struct line *l, const struct named_weights *n, struct error *e)
{
    char path[200] = "net.";
    int64_t channels[CHANNELS_MAX];
    int levels = 0;
    bool divisible = true;
    while (levels < CHANNELS_MAX) {
        const struct weight *first = find(n, 4, "%s%d.main.0.weight", path, levels > 0);
        if (!first)
            break;
        channels[levels] = first->shape[0];
        divisible &= 4 * channels[levels] % channels[0] == 0;
        strcat(path, levels == 0 ? "4.main." : "9.main.");
        levels++;
    }
    if (levels == 0)
        return error_set(e, "tensor 'net.0.main.0.weight' is missing or unusable");
    /* Shapes only tell products; published models start with multiplier 4. */
    if (divisible && channels[0] % 4 == 0) {
        put(l, "U-Net, base %" PRId64 ", multipliers ", channels[0] / 4);
        for (int i = 0; i < levels; i++)
            put(l, "%s%" PRId64, i ? "," : "", 4 * channels[i] / channels[0]);
    } else {
        put(l, "U-Net, channels ");
        for (int i = 0; i < levels; i++)
            put(l, "%s%" PRId64, i ? "," : "", channels[i]);
    }
    return 0;
}

static int describe_kl(struct line *l, const struct named_weights *n, struct error *e)
{
    bool has_encoder = names_find(n, "encoder.conv_in.weight");
    const char *side = has_encoder ? "encoder.down" : "decoder.up";
    const char *z_name = has_encoder ? "quant_conv.weight" : "post_quant_conv.weight";
    const char *first_name = has_encoder ? "encoder.conv_in.bias" : "decoder.norm_out.bias";
    const struct weight *z = find(n, 4, "%s", z_name), *first = find(n, 1, "%s", first_name);
    if (!z || !first)
        return error_set(e, "tensor '%s' is missing or unusable", z ? first_name : z_name);
    put(l, "KL autoencoder, ch %" PRId64 ", multipliers ", first->shape[0]);
    const struct weight *t;
    int blocks = 0;
    for (int i = 0; (t = find(n, 4, "%s.%d.block.0.conv1.weight", side, i)); i++)
        put(l, "%s%" PRId64, i ? "," : "", t->shape[0] / first->shape[0]);
    while (find(n, 4, "%s.0.block.%d.conv1.weight", side, blocks))
        blocks++;
    put(l, ", %d blocks a level, z %" PRId64, has_encoder ? blocks : blocks - 1,
        has_encoder ? z->shape[0] / 2 : z->shape[1]);
    if (!has_encoder || !names_find(n, "decoder.conv_in.weight"))
        put(l, ", %s only", has_encoder ? "encoder" : "decoder");
    return 0;
}

static int count_layers(const struct named_weights *n, const char *tower)
{
    int layers = 0;
    while (find(n, 2, "%s.layers.%d.attn.query.weight", tower, layers))
        layers++;
    return layers;
}

static int describe_cloob(struct line *l, const struct named_weights *n, struct error *e)
{
    const struct weight *patch = find(n, 4, "image_encoder.embed.weight"),
                        *positions = find(n, 2, "image_encoder.pos_embed.weight"),
                        *table = find(n, 2, "text_encoder.embed.weight"),
                        *context = find(n, 2, "text_encoder.pos_embed.weight"),
                        *out = find(n, 2, "%s_encoder.proj.weight", patch ? "image" : "text");
    bool image = patch && positions, text = table && context;
    if ((!image && !text) || !out)
        return error_set(e, "embeddings, positions or the projection are missing or unusable");
    put(l, "CLOOB, embed %" PRId64, out->shape[0]);
    if (image) {
        int64_t side = 0;
        while ((side + 1) * (side + 1) < positions->shape[0])
            side++; /* of the grid of patches; one position more is the class token's */
        put(l, ", images %" PRId64 "/%" PRId64 " %d layers of %" PRId64, side * patch->shape[2],
            patch->shape[2], count_layers(n, "image_encoder"), patch->shape[0]);
    }
    if (text)
        put(l, ", text %" PRId64 " of %" PRId64 " tokens %d layers of %" PRId64, context->shape[0],
            table->shape[0], count_layers(n, "text_encoder"), table->shape[1]);
    return 0;
}

static int describe_lpips(struct line *l, const struct named_weights *n, struct error *e)
{
    const struct weight *first = find(n, 4, "features.0.weight");
    if (!first || !names_find(n, "lin0.model.1.weight"))
        return error_set(e, "tensor '%s' is missing or unusable",
                         first ? "lin0.model.1.weight" : "features.0.weight");
    put(l, "LPIPS, VGG16 of %" PRId64 " channels", first->shape[0]);
    return 0;
}

static int describe_discriminator(struct line *l, const struct named_weights *n, struct error *e)
{
    const struct weight *first = find(n, 4, "main.0.weight");
    int layers = 0;
    if (!first)
        return error_set(e, "tensor 'main.0.weight' is missing or unusable");
    while (find(n, 1, "main.%d.weight", 3 * (layers + 1)))
        layers++;
    put(l, "PatchGAN discriminator, %" PRId64 " channels, %d layers", first->shape[0], layers);
    return 0;
}

int names_describe(char *text, size_t size, const struct named_weights *n, struct error *e)
{
    struct line l = {text, size, 0};
    text[0] = 0;
    static int (*const describe[])(struct line *, const struct named_weights *,
                                   struct error *) = {[NET_UNET] = describe_unet,
                                                      [NET_KL] = describe_kl,
                                                      [NET_CLOOB] = describe_cloob,
                                                      [NET_LPIPS] = describe_lpips,
                                                      [NET_DISCRIMINATOR] = describe_discriminator};
    if (describe[n->net](&l, n, e))
        return -1;
    put(&l, ", ");
    put_count(&l, parameters(n));
    put(&l, " parameters");
    return 0;
}
