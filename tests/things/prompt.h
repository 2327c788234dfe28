#ifndef CCLD_TESTS_THINGS_PROMPT_H
#define CCLD_TESTS_THINGS_PROMPT_H

#include "tests/things/things.h"

/* What a prompt asks for. */
struct things_wanted {
    int count; /* of things: 1 or 2 */
    int things[2];
    int relation; /* of the first to the second: enum relation, or -1 if it is open */
    int scenery;  /* or -1 */
};

/* Finds names, relation and background in a prompt. False if it names no thing or more than two. */
bool things_parse(struct things_wanted *w, const char *prompt);

#endif
