#ifndef CCLD_DIFFUSION_PROMPT_H
#define CCLD_DIFFUSION_PROMPT_H

/* A text or image prompt, `text[:weight]`. What follows the last colon is the weight if it is a
 * finite decimal number (sign, fraction, exponent and surrounding blanks are allowed); any other
 * suffix is part of the text: "12:30" is "12" with weight 30; "a: b" and "http://host/a.jpg" have
 * no weight. */
struct prompt {
    char *text;
    double weight;
};

void prompt_parse(struct prompt *p, const char *argument, double default_weight);
void prompt_release(struct prompt *p);

#endif
