#ifndef CCLD_FORMATS_TEXT_UTF8_H
#define CCLD_FORMATS_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes one code point (below 0x110000) as UTF-8, at most four bytes; returns where it ends. */
static inline char *utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(lead[tail] | c >> (6 * tail));
    while (tail-- > 0)
        *out++ = (char)(0x80 | (c >> (6 * tail) & 0x3f));
    return out;
}

/* Copies text (*out is malloc'ed) with U+FFFD for every byte that is not part of valid UTF-8.
 * false: there were such bytes. */
bool utf8_repair(char **out, const char *text);

/* Copies text, repaired, to out[size], as many whole characters as fit. */
void utf8_cut(char *out, size_t size, const char *text);

#endif
