#include "tests/support/caption.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/base/message.h"

const enum relation relation_turned[RELATION_COUNT] = {RIGHT_OF, LEFT_OF, BELOW, ABOVE};
const char *const relation_words[2][RELATION_COUNT] = {
    {"to the left of", "to the right of", "above", "below"},
    {"left of", "right of", "over", "under"}};
const char *const relation_seen[RELATION_COUNT] = {"to its left", "to its right", "above it",
                                                   "below it"};

void say(struct caption *c, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(c->text + c->used, CAPTION_MAX - c->used, format, arguments);
    va_end(arguments);
    c->used += (size_t)n;
    CHECK(c->used < CAPTION_MAX);
}
