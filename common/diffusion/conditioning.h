#ifndef CCLD_DIFFUSION_CONDITIONING_H
#define CCLD_DIFFUSION_CONDITIONING_H

#include "common/base/error.h"
#include "common/base/options.h"
#include "common/diffusion/prompt.h"
#include "common/diffusion/prompt_lines.h"
#include "common/nets/cloob.h"
#include "formats/text/clip_bpe.h"
#include "kernels/tape.h"

/* What an image should show: weighted text and image prompts and their CLOOB embeddings. */
struct conditioning {
    char *label;            /* all prompts in one line, e.g. "a city | rain:2" */
    double guidance;        /* the weight of prompts that have none in the label */
    struct prompt *prompts; /* those of the arguments or line, then the images of all */
    int count, given;       /* all prompts; of them, images of all */
    int64_t line;           /* of the source, from 1; 0: none */
    float *weights; /* [count + 1], see guidance_weights; the unconditional one comes first */
    float *embeds;  /* [count, embedding width]; NULL before conditionings_embed */
};

struct conditionings {
    struct conditioning *items;
    int count, capacity;
    int embedded, forgotten; /* the first ones */
    float *image_embeds;     /* of the images that all conditionings have; NULL: none so far */
    struct clip_bpe *bpe;    /* NULL before conditionings_embed */
    int doubts;              /* prompts that may have been meant otherwise */
    char *source;            /* of lines, for messages; or NULL */
    bool from_images;        /* nobody writes the prompts: no warnings of doubts */
};

#define CONDITIONING_MAX_WEIGHT 1e6 /* larger magnitudes would only overflow float32 */

/* Adds one conditioning from all these prompts (see prompt_parse_any) and images, which must be the
 * same each time, written as `path[:weight]`. Fails if a weight is too large. Warns of the first
 * prompts whose suffix may have been meant otherwise, and of texts that are names of image files.
 * Start with zeroed conditionings. */
int conditionings_add(struct conditionings *c, int prompts, const char *const *prompt,
                      const struct string_list *images, double default_weight, struct error *e);
/* Adds one conditioning from the prompts of a line, which tabs separate, and images. A blank line
 * adds none. Changes line. */
int conditionings_add_line(struct conditionings *c, char *line, const struct string_list *images,
                           double default_weight, struct error *e);
/* The line with all prompts and weights of a conditioning, images included, malloc'ed: read again,
 * it makes the same. Tabs and line breaks of texts become blanks. */
char *conditioning_line(const struct conditioning *c);
/* Adds one with a given embedding [width], which is copied, instead of prompts; label: what it is.
 * All others must have been embedded. */
void conditionings_add_embed(struct conditionings *c, const char *label, const float *embed,
                             int64_t width, double weight);
/* Adds a conditioning for each line: all lines of a file; of a pipe at most `most` of those that
 * have arrived, and with `wait` at least one unless the pipe ends. Tabs separate the prompts of a
 * line. */
int conditionings_read(struct conditionings *c, struct prompt_lines *lines, bool wait, int most,
                       const struct string_list *images, double default_weight, struct error *e);
/* Adds a conditioning for every line of the file at path, read to its end. */
int conditionings_add_file(struct conditionings *c, const char *path, double default_weight,
                           struct error *e);
/* Runs CLOOB's towers for conditionings that have no embeddings yet: once per prompt, and once for
 * each image that all have. Images are embedded after a Lanczos resize and center crop to the
 * tower's input size, in the colors a person sees. A text that is too long for the model is
 * truncated with a warning. path: CLOOB's file, for messages. */
int conditionings_embed(struct conditionings *c, struct tape *t, const struct cloob *cloob,
                        const char *path, struct error *e);
/* Frees what the first `count` hold; they must not be used any more. */
void conditionings_forget(struct conditionings *c, int count);
void conditionings_release(struct conditionings *c);

#endif
