#ifndef CCLD_BASE_TEXT_H
#define CCLD_BASE_TEXT_H

#include <stdbool.h>
#include <string.h>

static inline bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

#endif
