#ifndef CCLD_BASE_TEXT_H
#define CCLD_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* What a regular noun gets after this number: "1 step", "2 steps". */
static inline const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* The value of a hexadecimal digit of either case, or -1. */
static inline int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The number with as few of 15 or 17 digits as read back to the same value; free it. */
char *exact_text(double v);

#endif
