#ifndef CCLD_DIFFUSION_CONDITIONING_H
#define CCLD_DIFFUSION_CONDITIONING_H

#include <stdio.h>

#include "common/base/error.h"
#include "common/base/options.h"
#include "common/diffusion/prompt.h"
#include "common/nets/cloob.h"
#include "kernels/tape.h"

/* What one picture is to be of: weighted texts and images, and their CLOOB embeds. */
struct conditioning {
    char *label;            /* for people and the stream's `prompt`: "a city | rain:2" */
    double guidance;        /* weight of what the label gives no weight for */
    struct prompt *prompts; /* texts, then images (text is the path) */
    int count, texts;
    float *weights; /* [count + 1], see guidance_weights: the unconditional one first */
    float *embeds;  /* [count, embed width]; NULL before conditionings_embed */
};

struct conditionings {
    struct conditioning *items;
    int count, capacity;
};

#define CONDITIONING_MAX_WEIGHT 1e6 /* in size; more only makes float32 overflow */

/* Adds one picture of all these texts and images, each `text[:weight]`. Fails on a weight that is
 * too large. Start with zeroed conditionings. */
int conditionings_add(struct conditionings *c, int texts, const char *const *text,
                      const struct string_list *images, double default_weight, struct error *e);
/* Adds a picture for every line of f that is not blank, each combined with all the images. source
 * is how messages call f. */
int conditionings_add_lines(struct conditionings *c, FILE *f, const char *source,
                            const struct string_list *images, double default_weight,
                            struct error *e);
/* Runs the towers: each text once per picture, each image once. Images are embedded after Lanczos
 * resize and centre crop to the tower's size, in the colours a person sees. A text that is too
 * long for the model is cut off with a warning. */
int conditionings_embed(struct conditionings *c, struct tape *t, const struct cloob *cloob,
                        struct error *e);
void conditionings_release(struct conditionings *c);

#endif
