#include "common/score/targets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

#define WEIGHT 3 /* of prompts without one, as in ccld-plms; it only matters among several */

/* malloc'ed; NULL: none. */
static char *key_of(const struct image_remarks *remarks)
{
    const char *several = image_remarks_find(remarks, "prompts");
    const char *one = image_remarks_find(remarks, "prompt");
    const char *guidance = image_remarks_find(remarks, "guidance");
    if (several)
        return xstrdup(several);
    return one ? xasprintf("%s\n%s", one, guidance ? guidance : "") : NULL;
}

static bool same_key(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static int find(const struct targets *s, const char *key)
{
    int count = s->conditionings.count;
    for (int i = 0; i < count; i++) { /* most often it is that of the image before */
        int at = (s->last + i) % count;
        if (same_key(s->keys[at], key))
            return at;
    }
    return -1;
}

/* A text alone, which may begin with an @. */
static int add_text(struct conditionings *c, const char *text, const char *guidance,
                    struct error *e)
{
    const struct string_list none = {0};
    const char *start = text + strspn(text, " ");
    char *prompt = xasprintf("%s%s", *start == '@' ? "\\" : "", *start == '@' ? start : text);
    double weight = guidance ? strtod(guidance, NULL) : WEIGHT;
    int status = conditionings_add(c, 1, (const char *const *)&prompt, &none, weight, e);
    free(prompt);
    return status;
}

/* An image that ccld-plms read from standard input is not there any more. */
static int check_images(const struct conditioning *c, struct error *e)
{
    for (int i = 0; i < c->count; i++)
        if (c->prompts[i].is_image && strcmp(c->prompts[i].text, "-") == 0)
            return error_set(e, "its image prompt was read from standard input and is not known");
    return 0;
}

/* Weights that are all 0 ask for nothing. ccld-plms samples without guidance then, and what it has
 * made is still scored by its prompts. */
static int check_weights(const struct conditioning *c, struct error *e)
{
    for (int i = 0; i < c->count; i++)
        if (c->prompts[i].weight != 0)
            return 0;
    return error_set(e, "'%.200s' asks for nothing: %s 0", c->label,
                     c->count > 1 ? "all weights are" : "its weight is");
}

static int add_target(struct targets *s, const struct image_remarks *remarks, struct error *e)
{
    const struct string_list none = {0};
    struct conditionings *c = &s->conditionings;
    const char *several = image_remarks_find(remarks, "prompts");
    const char *one = image_remarks_find(remarks, "prompt");
    int before = c->count, status;
    c->from_images = several || one;
    if (several) {
        char *line = xstrdup(several);
        status = conditionings_add_line(c, line, &none, WEIGHT, e);
        free(line);
        if (status == 0 && c->count > before)
            status = check_images(&c->items[before], e);
    } else if (one) {
        status = add_text(c, one, image_remarks_find(remarks, "guidance"), e);
    } else if (s->prompts.count + s->images.count > 0) {
        status = conditionings_add(c, s->prompts.count, s->prompts.items, &s->images, WEIGHT, e);
        if (status == 0)
            status = check_weights(&c->items[before], e);
    } else {
        return error_set(e, "it has no prompt: name one with --prompt or --images");
    }
    if (status == 0 && c->count == before)
        status = error_set(e, "its prompt is empty");
    return status;
}

static int add_direction(struct targets *s, const struct conditioning *c, int64_t width,
                         struct error *e)
{
    float *sum = xcalloc((size_t)width, sizeof *sum);
    bool weighted = false, zero = true;
    for (int i = 0; i < c->count; i++)
        weighted |= c->prompts[i].weight != 0;
    for (int64_t j = 0; j < width; j++) {
        double all = 0;
        for (int i = 0; i < c->count; i++)
            all += c->embeds[i * width + j] * (weighted ? c->prompts[i].weight : 1);
        sum[j] = (float)all;
        zero &= sum[j] == 0;
    }
    s->directions.width = width;
    if (!zero)
        embeddings_add(&s->directions, sum, NULL);
    free(sum);
    return zero ? error_set(e, "its prompts '%.200s' cancel out", c->label) : 0;
}

int targets_find(struct targets *s, const struct image_remarks *remarks, struct tape *t,
                 const struct cloob *cloob, const char *path, struct error *e)
{
    struct conditionings *c = &s->conditionings;
    char *key = key_of(remarks);
    int found = find(s, key);
    if (found >= 0) {
        free(key);
        return s->last = found;
    }
    if (add_target(s, remarks, e) != 0 || conditionings_embed(c, t, cloob, path, e) != 0 ||
        add_direction(s, &c->items[c->count - 1], cloob_sizes(cloob)->embed_width, e) != 0) {
        free(key);
        return -1;
    }
    s->keys = xrealloc(s->keys, (size_t)c->count * sizeof *s->keys);
    s->keys[c->count - 1] = key;
    return s->last = c->count - 1;
}

const char *targets_label(const struct targets *s, int target)
{
    return s->conditionings.items[target].label;
}

double targets_cosine(const struct targets *s, int target, const float *embed)
{
    const struct embeddings *d = &s->directions;
    return embeddings_cosine(embed, d->values + target * d->width, d->width);
}

double targets_margin(const struct targets *s, int target, const float *embed)
{
    double largest = -INFINITY;
    for (int i = 0; i < s->directions.count; i++)
        if (i != target)
            largest = fmax(largest, targets_cosine(s, i, embed));
    return s->directions.count > 1 ? targets_cosine(s, target, embed) - largest : NAN;
}

void targets_release(struct targets *s)
{
    for (int i = 0; i < s->conditionings.count && s->keys; i++)
        free(s->keys[i]);
    free(s->keys);
    conditionings_release(&s->conditionings);
    embeddings_release(&s->directions);
    free(s->images.items);
    free(s->prompts.items);
    *s = (struct targets){0};
}
