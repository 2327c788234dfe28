#include "common/diffusion/conditioning.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/diffusion/guidance.h"
#include "common/images/prepare.h"
#include "formats/text/clip_bpe.h"

/* Appends one prompt to the label, with its weight if that differs from the guidance. */
static void extend_label(struct conditioning *p, const char *kind, const char *text, double weight)
{
    char suffix[40] = "";
    if (weight != p->guidance)
        snprintf(suffix, sizeof suffix, ":%.9g", weight);
    char *label = xasprintf("%s%s%s%s%s", p->label ? p->label : "", p->label ? " | " : "", kind,
                            text, suffix);
    free(p->label);
    p->label = label;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void conditioning_release(struct conditioning *p)
{
    for (int i = 0; i < p->count; i++)
        prompt_release(&p->prompts[i]);
    free(p->prompts);
    free(p->label);
    free(p->weights);
    free(p->embeds);
}

void conditionings_release(struct conditionings *c)
{
    for (int i = 0; i < c->count; i++)
        conditioning_release(&c->items[i]);
    free(c->items);
    *c = (struct conditionings){0};
}

int conditionings_add(struct conditionings *c, int texts, const char *const *text,
                      const struct string_list *images, double default_weight, struct error *e)
{
    int count = texts + images->count;
    CHECK(count > 0);
    struct conditioning p = {.count = count, .texts = texts, .guidance = default_weight};
    p.prompts = xcalloc((size_t)count, sizeof *p.prompts);
    p.weights = xcalloc((size_t)count + 1, sizeof *p.weights);
    double *prompt_weights = xcalloc((size_t)count, sizeof *prompt_weights);
    const struct prompt *extreme = NULL;
    for (int i = 0; i < count; i++) {
        const char *argument = i < texts ? text[i] : images->items[i - texts];
        prompt_parse(&p.prompts[i], argument, default_weight);
        prompt_weights[i] = p.prompts[i].weight;
        if (!(fabs(prompt_weights[i]) <= CONDITIONING_MAX_WEIGHT))
            extreme = &p.prompts[i];
    }
    if (count == 1)
        p.guidance = prompt_weights[0];
    for (int i = 0; i < count; i++) {
        const char *shown = p.prompts[i].text;
        extend_label(&p, i < texts ? "" : "image ", i < texts ? shown : base_name(shown),
                     prompt_weights[i]);
    }
    guidance_weights(p.weights, prompt_weights, count);
    free(prompt_weights);
    if (extreme) {
        error_set(e, "weight %g of '%.200s' is too large", extreme->weight, extreme->text);
        conditioning_release(&p);
        return -1;
    }
    if (c->count == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 16;
        c->items = xrealloc(c->items, (size_t)c->capacity * sizeof *c->items);
    }
    c->items[c->count++] = p;
    return 0;
}

/* source: a name of f for messages. */
static int add_lines(struct conditionings *c, FILE *f, const char *source,
                     const struct string_list *images, double default_weight, struct error *e)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    int status = 0;
    for (int64_t number = 1; status == 0 && (n = getline(&line, &capacity, f)) >= 0; number++) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = 0;
        const char *text = line;
        if (number == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
            text += 3; /* byte order mark */
        if (strlen(line) != (size_t)n)
            status = error_set(e, "%s, line %" PRId64 ": NUL byte in the text", source, number);
        else if (text[strspn(text, " \t\v\f")] &&
                 conditionings_add(c, 1, &text, images, default_weight, e) != 0)
            status = error_prefix(e, "%s, line %" PRId64, source, number);
    }
    if (status == 0 && ferror(f))
        status = error_errno(e, "cannot read %s", source);
    free(line);
    return status;
}

int conditionings_add_file(struct conditionings *c, const char *path,
                           const struct string_list *images, double default_weight, struct error *e)
{
    bool from_stdin = !path || strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "re");
    if (!f)
        return error_errno(e, "cannot open '%s'", path);
    char *source = from_stdin ? xstrdup("standard input") : xasprintf("'%s'", path);
    int status = add_lines(c, f, source, images, default_weight, e);
    free(source);
    if (!from_stdin)
        fclose(f);
    return status;
}

/* Text for a message: at most 60 bytes, cut between characters. */
static const char *shortened(char buffer[80], const char *text)
{
    size_t n = strlen(text);
    bool cut = n > 60;
    if (cut) {
        n = 60;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    snprintf(buffer, 80, "%.*s%s", (int)n, text, cut ? "..." : "");
    return buffer;
}

static void download_embed(float *embed, struct tensor *t)
{
    tensor_to_f32(t, embed);
    tensor_release(t);
}

static void embed_text(float *embed, struct tape *t, const struct cloob *cloob,
                       const struct clip_bpe *bpe, const char *text)
{
    size_t context = (size_t)cloob_sizes(cloob)->context;
    int32_t *row = xmalloc(context * sizeof *row);
    size_t cut = clip_bpe_encode_row(bpe, text, row, context);
    char buffer[80], cut_off[40] = "token is";
    if (cut > 1)
        snprintf(cut_off, sizeof cut_off, "%zu tokens are", cut);
    if (cut > 0)
        warn("prompt '%s' is too long: the last %s ignored", shortened(buffer, text), cut_off);
    download_embed(embed, cloob_text(t, cloob, row, 1));
    free(row);
}

static int embed_image(float *embed, struct tape *t, const struct cloob *cloob, const char *path,
                       struct error *e)
{
    int size = (int)cloob_sizes(cloob)->image_size;
    float *x = xmalloc(3 * (size_t)size * (size_t)size * sizeof *x);
    if (prepare_file(x, path, size, size, e) != 0) {
        free(x);
        return -1;
    }
    struct tensor *input = tensor_from_f32(t->device, DIMS(1, 3, size, size), x);
    free(x);
    download_embed(embed, cloob_image(t, cloob, input));
    tensor_release(input);
    return 0;
}

static int check_finite(const float *x, size_t n, const char *of, struct error *e)
{
    char buffer[80];
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return error_set(e, "the embedding of '%s' is not finite: CLOOB's weights are damaged",
                             shortened(buffer, of));
    }
    return 0;
}

int conditionings_embed(struct conditionings *c, struct tape *t, const struct cloob *cloob,
                        struct error *e)
{
    size_t width = (size_t)cloob_sizes(cloob)->embed_width;
    struct clip_bpe *bpe;
    if (clip_bpe_new(&bpe, cloob_sizes(cloob)->vocabulary, e) != 0)
        return -1;
    int status = 0;
    for (int i = 0; i < c->count && status == 0; i++) {
        struct conditioning *p = &c->items[i];
        p->embeds = xcalloc((size_t)p->count * width, sizeof *p->embeds);
        for (int j = 0; j < p->count && status == 0; j++) {
            float *embed = p->embeds + (size_t)j * width;
            const char *text = p->prompts[j].text;
            if (j < p->texts)
                embed_text(embed, t, cloob, bpe, text);
            else if (i > 0) /* every conditioning has the same images */
                memcpy(embed,
                       c->items[0].embeds + (size_t)(j - p->texts + c->items[0].texts) * width,
                       width * sizeof *embed);
            else
                status = embed_image(embed, t, cloob, text, e);
            if (status == 0)
                status = check_finite(embed, width, text, e);
        }
    }
    clip_bpe_free(bpe);
    return status;
}
