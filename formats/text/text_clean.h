#ifndef CCLD_FORMATS_TEXT_TEXT_CLEAN_H
#define CCLD_FORMATS_TEXT_TEXT_CLEAN_H

#include <stdbool.h>

#include "formats/text/codepoints.h"

/* What CLIP's tokenizer does to text before splitting it into words. First ftfy.fix_text, without
 * its repair of mojibake: HTML references (up to the first line with a `<`), C1 controls read as
 * Windows-1252, Latin ligatures, full-width and half-width forms, curly quotes, line breaks,
 * terminal escapes, control characters and NFC, repeated per line until nothing changes. Then
 * html.unescape twice, white space collapsed to single spaces and stripped, and lower case.
 * Appends to out; text is `size` bytes of UTF-8. */
void text_clean(struct codepoints *out, const char *text, size_t size);

/* Python's str.isspace. */
bool codepoint_is_space(uint32_t c);

#endif
