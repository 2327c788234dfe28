#ifndef CCLD_FORMATS_TEXT_TEXT_CLEAN_H
#define CCLD_FORMATS_TEXT_TEXT_CLEAN_H

#include <stdbool.h>

#include "formats/text/codepoints.h"

/* What CLIP's tokenizer does to text before it cuts it into words. First ftfy.fix_text without its
 * guesses about wrongly decoded text: HTML references (until a line has a `<`), C1 controls read as
 * Windows-1252, Latin ligatures, full and half width forms, curly quotes, line breaks, terminal
 * escapes, control characters, NFC, for each line until nothing changes. Then html.unescape twice,
 * white space collapsed to single blanks and stripped, and lower case.
 * out is appended to; text is UTF-8 of `size` bytes. */
void text_clean(struct codepoints *out, const char *text, size_t size);

/* Python's str.isspace and str.lower. */
bool codepoint_is_space(uint32_t c);
void codepoints_lower(struct codepoints *out, const uint32_t *text, size_t count);

#endif
