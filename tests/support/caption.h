#ifndef CCLD_TESTS_CAPTION_H
#define CCLD_TESTS_CAPTION_H

#include <stddef.h>

/* A caption in the making: lower-case words separated by single spaces, always fewer than 77
 * tokens. */
#define CAPTION_MAX 200
struct caption {
    char *text; /* of CAPTION_MAX bytes */
    size_t used;
};

void say(struct caption *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How two objects of a scene lie to each other. */
enum relation { LEFT_OF, RIGHT_OF, ABOVE, BELOW, RELATION_COUNT };
extern const enum relation relation_turned[RELATION_COUNT]; /* of the second to the first */
extern const char *const relation_words[2][RELATION_COUNT]; /* "to the left of", "left of" */
extern const char *const relation_seen[RELATION_COUNT];     /* "to its left" */

#endif
