#ifndef CCLD_FORMATS_TEXT_HTML_ENTITIES_H
#define CCLD_FORMATS_TEXT_HTML_ENTITIES_H

#include "formats/text/codepoints.h"

/* Appends text to out with character references replaced, as the HTML standard does in text: named
 * references (the longest matching name; old ones may lack the semicolon), decimal and hexadecimal
 * ones. Numbers 128 to 159 mean Windows-1252, references to control characters and noncharacters
 * are dropped, and those to surrogates or beyond Unicode become U+FFFD. */
void html_unescape(struct codepoints *out, const uint32_t *text, size_t count);

/* A stricter variant for text that may not be HTML: replaces only complete references, with a
 * semicolon and at most 24 letters and digits. It also accepts names in capitals: `&NTILDE;` is the
 * upper case of `&ntilde;`, unless HTML has a name that matches. */
void html_unescape_strict(struct codepoints *out, const uint32_t *text, size_t count);

/* The Windows-1252 character at the position of a C1 control character; all other code points, and
 * the five that Windows-1252 leaves undefined, are returned unchanged. */
uint32_t codepoint_from_windows_1252(uint32_t c);

#endif
