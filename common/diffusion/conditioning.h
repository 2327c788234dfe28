#ifndef CCLD_DIFFUSION_CONDITIONING_H
#define CCLD_DIFFUSION_CONDITIONING_H

#include "common/base/error.h"
#include "common/base/options.h"
#include "common/diffusion/prompt.h"
#include "common/nets/cloob.h"
#include "kernels/tape.h"

/* What an image should show: weighted text and image prompts and their CLOOB embeddings. */
struct conditioning {
    char *label;            /* all prompts in one line, e.g. "a city | rain:2" */
    double guidance;        /* the weight of prompts that have none in the label */
    struct prompt *prompts; /* texts, then images (their text is the path) */
    int count, texts;
    float *weights; /* [count + 1], see guidance_weights; the unconditional one comes first */
    float *embeds;  /* [count, embedding width]; NULL before conditionings_embed */
};

struct conditionings {
    struct conditioning *items;
    int count, capacity;
};

#define CONDITIONING_MAX_WEIGHT 1e6 /* larger magnitudes would only overflow float32 */

/* Adds one conditioning from all these texts and images, each written as `text[:weight]`. Fails if
 * a weight is too large. Start with zeroed conditionings. */
int conditionings_add(struct conditionings *c, int texts, const char *const *text,
                      const struct string_list *images, double default_weight, struct error *e);
/* Adds a conditioning for every nonblank line of the file at path, each combined with all the
 * images. NULL and "-" are standard input. */
int conditionings_add_file(struct conditionings *c, const char *path,
                           const struct string_list *images, double default_weight,
                           struct error *e);
/* Runs CLOOB's towers: once per text prompt, once per image. Images are embedded after a Lanczos
 * resize and center crop to the tower's input size, in the colors a person sees. A text that is too
 * long for the model is truncated with a warning. */
int conditionings_embed(struct conditionings *c, struct tape *t, const struct cloob *cloob,
                        struct error *e);
void conditionings_release(struct conditionings *c);

#endif
