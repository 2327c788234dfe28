#ifndef CCLD_DIFFUSION_PROMPT_H
#define CCLD_DIFFUSION_PROMPT_H

/* `text[:weight]`, for text and for image prompts. The weight is what stands behind the last colon
 * when that is a finite decimal number (a sign, a fraction, an exponent and blanks around it are
 * fine); any other suffix is part of the text: "12:30" is "12" with weight 30, "a: b" and
 * "http://host/a.jpg" are text alone. */
struct prompt {
    char *text;
    double weight;
};

void prompt_parse(struct prompt *p, const char *argument, double default_weight);
void prompt_release(struct prompt *p);

#endif
