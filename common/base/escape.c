#include "common/base/escape.h"

#include <stdlib.h>
#include <string.h>

/* The length of the control character at s, or 0. */
static size_t control_length(const char *s)
{
    const unsigned char *c = (const unsigned char *)s;
    if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
        return 2;
    return c[0] < 0x20 || c[0] == 0x7f;
}

/* The letter of a short form, or 0. */
static char short_form(char c, bool reversible)
{
    switch (c) {
    case '\n':
        return 'n';
    case '\t':
        return 't';
    case '\r':
        return 'r';
    case '\\':
        return reversible ? '\\' : 0;
    default:
        return 0;
    }
}

size_t escape_next(char out[ESCAPE_MAX], const char **s, bool reversible)
{
    size_t length = control_length(*s), used = 0;
    char letter = short_form(**s, reversible);
    if (letter) {
        out[used++] = '\\';
        out[used++] = letter;
        ++*s;
        return used;
    }
    if (length == 0) {
        out[used++] = *(*s)++;
        return used;
    }
    for (; length > 0; length--, ++*s) {
        unsigned c = (unsigned char)**s;
        out[used++] = '\\';
        for (int shift = 6; shift >= 0; shift -= 3)
            out[used++] = (char)('0' + (c >> shift & 7));
    }
    return used;
}

char *escape_line(const char *text)
{
    bool any = false;
    for (const char *s = text; *s && !any; s++)
        any = control_length(s) > 0;
    char *out = any ? malloc(4 * strlen(text) + 1) : NULL;
    if (!out)
        return NULL;
    size_t used = 0;
    while (*text)
        used += escape_next(out + used, &text, false);
    out[used] = '\0';
    return out;
}

void escape_print(FILE *f, const char *text)
{
    while (*text) {
        char out[ESCAPE_MAX];
        fwrite(out, 1, escape_next(out, &text, true), f);
    }
}
