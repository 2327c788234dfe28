#ifndef CCLD_FORMATS_TEXT_CODEPOINTS_H
#define CCLD_FORMATS_TEXT_CODEPOINTS_H

#include <stddef.h>
#include <stdint.h>

/* Text as a growing array of Unicode scalar values. {0} is an empty one. */
struct codepoints {
    uint32_t *at;
    size_t count, capacity;
};

void codepoints_release(struct codepoints *c);
void codepoints_push(struct codepoints *c, uint32_t codepoint);
void codepoints_append(struct codepoints *c, const uint32_t *from, size_t count);

/* Appends UTF-8; each maximal part of an invalid sequence becomes one U+FFFD, as Unicode
 * recommends. */
void codepoints_decode(struct codepoints *c, const char *text, size_t size);
/* Encodes count code points as UTF-8: malloc'ed, with a zero byte after the last of *size bytes. */
char *codepoints_encode(const uint32_t *from, size_t count, size_t *size);

#endif
