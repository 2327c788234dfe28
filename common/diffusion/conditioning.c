#include "common/diffusion/conditioning.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/text.h"
#include "common/diffusion/guidance.h"
#include "common/images/prepare.h"
#include "formats/images/image.h"
#include "formats/text/mojibake.h"

#define BLANKS       " \t\v\f"
#define DOUBTS_SHOWN 5

/* Whether text alone would be read as a text with a weight. */
static bool ends_in_weight(const char *text)
{
    struct prompt p;
    prompt_parse(&p, text, 0);
    bool differs = strcmp(p.text, text) != 0;
    prompt_release(&p);
    return differs;
}

/* Appends one prompt to the label, with its weight if that differs from the guidance or if the text
 * would seem to have one. */
static void extend_label(struct conditioning *p, const char *kind, const char *text, double weight)
{
    char suffix[40] = "";
    if (weight != p->guidance || ends_in_weight(text))
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
    free(c->image_embeds);
    free(c->source);
    clip_bpe_free(c->bpe);
    *c = (struct conditionings){0};
}

void conditionings_forget(struct conditionings *c, int count)
{
    for (; c->forgotten < count; c->forgotten++) {
        conditioning_release(&c->items[c->forgotten]);
        c->items[c->forgotten] = (struct conditioning){0};
    }
}

/* Whether another doubt is to be shown. */
static bool shows_doubt(struct conditionings *c)
{
    if (c->from_images)
        return false;
    if (++c->doubts == DOUBTS_SHOWN + 1)
        warn("more prompts may be meant otherwise than they are read: not shown");
    return c->doubts <= DOUBTS_SHOWN;
}

static bool names_image(const char *text)
{
    return file_is_regular(text) && image_file_is_known(text) > 0;
}

/* An image's @ may have been forgotten. */
static void warn_of_file(struct conditionings *c, const struct prompt *p, const char *argument)
{
    if (!p->is_image && p->text[0] != '@' && names_image(p->text) && shows_doubt(c))
        warn("prompt '%.200s' is read as text, but an image file has this name (write "
             "'@%.200s' for an image prompt)",
             argument, argument);
}

/* Says how the suffix of a prompt was read, and how to write either meaning. */
static void warn_of_doubt(struct conditionings *c, const struct prompt *p, const char *argument)
{
    const char *colon = strrchr(argument, ':');
    if (p->doubt == PROMPT_CLEAR || !colon || !shows_doubt(c))
        return;
    const char *number = colon + 1 + strspn(colon + 1, BLANKS);
    int n = (int)strcspn(number, BLANKS);
    if (p->doubt == PROMPT_READ_AS_TEXT)
        warn("prompt '%.200s': ':%.*s' is read as part of a time, not as a weight (write '\\:%.*s' "
             "for text, ':+%.*s' for a weight)",
             argument, n, number, n, number, n, number);
    else
        warn("prompt '%.200s': ':%.*s' is read as a weight, not as text (write '\\:%.*s' for text, "
             "':+%.*s' for a weight)",
             argument, n, number, n, number, n, number);
}

static void describe(struct conditioning *p)
{
    for (int i = 0; i < p->count; i++) {
        const struct prompt *prompt = &p->prompts[i];
        extend_label(p, prompt->is_image ? "image " : "",
                     prompt->is_image ? base_name(prompt->text) : prompt->text, prompt->weight);
    }
}

static int check_weights(const struct conditioning *p, struct error *e)
{
    for (int i = 0; i < p->count; i++) {
        const struct prompt *prompt = &p->prompts[i];
        if (!(fabs(prompt->weight) <= CONDITIONING_MAX_WEIGHT))
            return error_set(e, "weight %g of '%.200s' is too large", prompt->weight, prompt->text);
    }
    return 0;
}

static void append(struct conditionings *c, const struct conditioning *p)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 16;
        c->items = xrealloc(c->items, (size_t)c->capacity * sizeof *c->items);
    }
    c->items[c->count++] = *p;
}

int conditionings_add(struct conditionings *c, int prompts, const char *const *prompt,
                      const struct string_list *images, double default_weight, struct error *e)
{
    int count = prompts + images->count;
    CHECK(count > 0);
    struct conditioning p = {.count = count, .given = images->count, .guidance = default_weight};
    p.prompts = xcalloc((size_t)count, sizeof *p.prompts);
    for (int i = 0; i < count; i++) {
        const char *argument = i < prompts ? prompt[i] : images->items[i - prompts];
        if (i < prompts) {
            prompt_parse_any(&p.prompts[i], argument, default_weight);
        } else {
            prompt_parse(&p.prompts[i], argument, default_weight);
            p.prompts[i].is_image = true;
        }
    }
    if (check_weights(&p, e) != 0) {
        conditioning_release(&p);
        return -1;
    }
    for (int i = 0; i < prompts; i++) {
        warn_of_file(c, &p.prompts[i], prompt[i]);
        warn_of_doubt(c, &p.prompts[i], prompt[i]);
    }
    for (int i = prompts; i < count && c->count == 0; i++)
        warn_of_doubt(c, &p.prompts[i], images->items[i - prompts]);
    if (count == 1)
        p.guidance = p.prompts[0].weight;
    describe(&p);
    double *weights = xcalloc((size_t)count, sizeof *weights);
    for (int i = 0; i < count; i++)
        weights[i] = p.prompts[i].weight;
    p.weights = xcalloc((size_t)count + 1, sizeof *p.weights);
    guidance_weights(p.weights, weights, count);
    free(weights);
    append(c, &p);
    return 0;
}

void conditionings_add_embed(struct conditionings *c, const char *label, const float *embed,
                             int64_t width, double weight)
{
    size_t bytes = (size_t)width * sizeof *embed;
    struct conditioning p = {.label = xstrdup(label), .guidance = weight, .count = 1};
    CHECK(c->embedded == c->count);
    p.prompts = xcalloc(1, sizeof *p.prompts);
    p.prompts[0] = (struct prompt){.text = xstrdup(label), .weight = weight};
    p.weights = xcalloc(2, sizeof *p.weights);
    guidance_weights(p.weights, &weight, 1);
    p.embeds = memcpy(xmalloc(bytes), embed, bytes);
    append(c, &p);
    c->embedded++;
}

int conditionings_add_line(struct conditionings *c, char *line, const struct string_list *images,
                           double default_weight, struct error *e)
{
    const char **prompts = xcalloc(strlen(line) + 1, sizeof *prompts);
    int count = 0;
    char *rest = line;
    for (char *field; (field = strsep(&rest, "\t"));)
        if (field[strspn(field, BLANKS)])
            prompts[count++] = field;
    int status = count > 0 ? conditionings_add(c, count, prompts, images, default_weight, e) : 0;
    free(prompts);
    return status;
}

/* So that conditionings_add_line reads the same text. */
static void append_escaped(char **line, const char *text)
{
    for (const char *c = text; *c; c++)
        xappend(line, "%s%c", *c == ':' ? "\\" : "", strchr("\t\n\r", *c) ? ' ' : *c);
    if (has_suffix(text, "\\")) /* which would escape the weight's colon */
        xappend(line, " ");
}

char *conditioning_line(const struct conditioning *c)
{
    char *line = NULL;
    for (int i = 0; i < c->count; i++) {
        const struct prompt *p = &c->prompts[i];
        const char *start = p->text + strspn(p->text, BLANKS);
        bool at = !p->is_image && *start == '@';
        xappend(&line, "%s%s", i > 0 ? "\t" : "", p->is_image ? "@" : at ? "\\" : "");
        append_escaped(&line, at ? start : p->text);
        xappend(&line, ":%+.9g", p->weight);
    }
    return line;
}

int conditionings_read(struct conditionings *c, struct prompt_lines *lines, bool wait, int most,
                       const struct string_list *images, double default_weight, struct error *e)
{
    char *line;
    int status = 0, before = c->count;
    if (!c->source)
        c->source = xstrdup(lines->source);
    while ((lines->is_file || c->count - before < most) &&
           (status = prompt_lines_next(lines, wait && c->count == before, &line, e)) > 0) {
        int at = c->count;
        if (conditionings_add_line(c, line, images, default_weight, e) != 0)
            return error_prefix(e, "%s, line %" PRId64, lines->source, lines->number);
        if (c->count > at)
            c->items[at].line = lines->number;
    }
    return status < 0 ? -1 : 0;
}

int conditionings_add_file(struct conditionings *c, const char *path, double default_weight,
                           struct error *e)
{
    const struct string_list no_images = {0};
    struct prompt_lines lines;
    int status = prompt_lines_open(&lines, path, e);
    for (int before = -1; status == 0 && c->count != before;) {
        before = c->count;
        status = conditionings_read(c, &lines, true, 1, &no_images, default_weight, e);
    }
    prompt_lines_close(&lines);
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
    if (text_is_mojibake(text, strlen(text)))
        note("prompt '%s' " MOJIBAKE_ADVICE, shortened(buffer, text));
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

static int embed_prompt(float *embed, const struct conditionings *c, struct tape *t,
                        const struct cloob *cloob, const struct prompt *p, struct error *e)
{
    if (!p->is_image)
        embed_text(embed, t, cloob, c->bpe, p->text);
    else if (embed_image(embed, t, cloob, p->text, e) != 0)
        return -1;
    return check_finite(embed, (size_t)cloob_sizes(cloob)->embed_width, p->text, e);
}

static int check_towers(const struct conditioning *p, const struct cloob *cloob, const char *path,
                        struct error *e)
{
    const struct cloob_sizes *sizes = cloob_sizes(cloob);
    for (int i = 0; i < p->count; i++)
        if (!(p->prompts[i].is_image ? sizes->has_image : sizes->has_text))
            return error_set(e, "'%s' has no %s tower", path,
                             p->prompts[i].is_image ? "image" : "text");
    return 0;
}

/* Says where an own prompt, not an image of all, is from. A missing file may have been meant as
 * text. */
static int explain(const struct conditionings *c, const struct conditioning *p, int i,
                   struct error *e)
{
    struct error before = *e;
    const struct prompt *prompt = &p->prompts[i];
    if (i >= p->count - p->given)
        return -1;
    if (prompt->is_image && !file_exists(prompt->text))
        error_set(e, "%s (a text that begins with @ is written '\\@')", before.text);
    return p->line ? error_prefix(e, "%s, line %" PRId64, c->source, p->line) : -1;
}

/* The images that all conditionings share are embedded once, for the first. */
static int embed_conditioning(struct conditionings *c, struct conditioning *p, struct tape *t,
                              const struct cloob *cloob, struct error *e)
{
    size_t width = (size_t)cloob_sizes(cloob)->embed_width;
    int own = c->image_embeds ? p->count - p->given : p->count;
    p->embeds = xcalloc((size_t)p->count * width, sizeof *p->embeds);
    for (int j = 0; j < own; j++)
        if (embed_prompt(p->embeds + (size_t)j * width, c, t, cloob, &p->prompts[j], e) != 0)
            return explain(c, p, j, e);
    size_t bytes = (size_t)p->given * width * sizeof *p->embeds;
    float *shared = p->embeds + (size_t)(p->count - p->given) * width;
    if (bytes > 0 && c->image_embeds)
        memcpy(shared, c->image_embeds, bytes);
    else if (bytes > 0)
        c->image_embeds = memcpy(xmalloc(bytes), shared, bytes);
    return 0;
}

int conditionings_embed(struct conditionings *c, struct tape *t, const struct cloob *cloob,
                        const char *path, struct error *e)
{
    if (!c->bpe && clip_bpe_new(&c->bpe, cloob_sizes(cloob)->vocabulary, e) != 0)
        return -1;
    for (; c->embedded < c->count; c->embedded++) {
        struct conditioning *p = &c->items[c->embedded];
        if (check_towers(p, cloob, path, e) != 0 || embed_conditioning(c, p, t, cloob, e) != 0)
            return -1;
    }
    return 0;
}
