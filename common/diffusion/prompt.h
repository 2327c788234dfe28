#ifndef CCLD_DIFFUSION_PROMPT_H
#define CCLD_DIFFUSION_PROMPT_H

#include <stdbool.h>

/* Larger weights without a sign are rare enough to ask whether a weight was meant. */
#define PROMPT_USUAL_WEIGHT 10

enum prompt_doubt { PROMPT_CLEAR, PROMPT_READ_AS_TEXT, PROMPT_READ_AS_WEIGHT };

/* A text or image prompt, `text[:weight]`. What follows the last colon is the weight if it is a
 * finite decimal number (sign, fraction, exponent and surrounding blanks are allowed); any other
 * suffix is part of the text: "a: b" and "http://host/a.jpg" have no weight. A time of day is text,
 * too: "12:30". A colon after a backslash is text, a number with a sign always a weight: "12\:30"
 * is "12:30", "12:+30" is "12" with weight 30. */
struct prompt {
    char *text; /* of an image: its path */
    double weight;
    bool is_image;
    enum prompt_doubt doubt; /* how a suffix was read that may have been meant otherwise */
};

void prompt_parse(struct prompt *p, const char *argument, double default_weight);
/* Reads "@file" as an image and "\@text" as the text "@text"; "@" before a blank is text. */
void prompt_parse_any(struct prompt *p, const char *argument, double default_weight);
void prompt_release(struct prompt *p);

#endif
