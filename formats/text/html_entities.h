#ifndef CCLD_FORMATS_TEXT_HTML_ENTITIES_H
#define CCLD_FORMATS_TEXT_HTML_ENTITIES_H

#include "formats/text/codepoints.h"

/* Appends text to out with HTML's character references replaced, as the HTML standard reads them in
 * text: named (the longest name that fits, where the semicolon may be missing for the old ones),
 * decimal and hexadecimal ones; 128 to 159 mean Windows-1252; references to control characters and
 * noncharacters vanish; those to surrogates and beyond Unicode become U+FFFD. */
void html_unescape(struct codepoints *out, const uint32_t *text, size_t count);

/* The careful variant for text that may not be HTML: only whole references with their semicolon, of
 * at most 24 letters and digits, and also names in capitals: `&NTILDE;` is the capital of
 * `&ntilde;` where HTML has no such name. */
void html_unescape_careful(struct codepoints *out, const uint32_t *text, size_t count);

/* What a C1 control character most likely was meant to be; all others, and the five codes that
 * Windows-1252 leaves open, unchanged. */
uint32_t codepoint_from_windows_1252(uint32_t c);

#endif
