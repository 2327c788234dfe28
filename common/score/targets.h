#ifndef CCLD_SCORE_TARGETS_H
#define CCLD_SCORE_TARGETS_H

#include "common/diffusion/conditioning.h"
#include "common/score/embeddings.h"
#include "formats/images/image_stream.h"

/* The prompts of a stream of images, each once, and the direction in CLOOB's space that an image of
 * it should have: the sum of its prompts' embeddings, each times its weight, as ccld-plms combines
 * predictions. If all weights of an image's own prompts are 0, as ccld-plms makes images without
 * guidance, each counts 1; those of others are refused. */
struct targets {
    struct conditionings conditionings;
    struct embeddings directions; /* [prompts, width] */
    char **keys;                  /* [prompts] what the images say of it; NULL: images without */
    struct string_list images;    /* of images that have no prompt of their own, with ... */
    struct string_list prompts;
    int last;
};

/* Whose prompt an image's remarks name: `prompts`, or `prompt` and `guidance`, and those of the
 * targets if there are none. Embeds a prompt when it appears for the first time. Returns its
 * number, or -1. path: CLOOB's file, for messages. */
int targets_find(struct targets *s, const struct image_remarks *remarks, struct tape *t,
                 const struct cloob *cloob, const char *path, struct error *e);
/* In one line, as in the stream. */
const char *targets_label(const struct targets *s, int target);
/* The cosine of an embedding of unit length with a target. */
double targets_cosine(const struct targets *s, int target, const float *embed);
/* That less the largest cosine with another target; NaN if there is none. */
double targets_margin(const struct targets *s, int target, const float *embed);
void targets_release(struct targets *s);

#endif
