#ifndef CCLD_FORMATS_TEXT_BITMAP_FONT_H
#define CCLD_FORMATS_TEXT_BITMAP_FONT_H

#include <stdint.h>

/* A font of fixed width for Latin, Greek and Cyrillic. */
#define BITMAP_FONT_WIDTH  8
#define BITMAP_FONT_HEIGHT 16

/* Fills rows from the top, a pixel per bit, the most significant bit on the left. A blank is empty;
 * for a code point without a glyph there is a box. */
void bitmap_font_glyph(uint8_t rows[BITMAP_FONT_HEIGHT], uint32_t code_point);

#endif
