#include "formats/text/bitmap_font.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "common/base/text.h"
#include "formats/text/embedded.h"

#define LINE 38 /* bytes of a glyph in the file: "0041 " and 32 digits */

static uint32_t hex(const unsigned char *s, int digits)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++)
        value = 16 * value + (uint32_t)hex_digit((char)s[i]);
    return value;
}

static bool is_blank(uint32_t c)
{
    return c <= ' ' || c == 0xa0 || (c >= 0x2000 && c <= 0x200f) || c == 0x3000;
}

void bitmap_font_glyph(uint8_t rows[BITMAP_FONT_HEIGHT], uint32_t code_point)
{
    static const uint8_t box[BITMAP_FONT_HEIGHT] = {0,    0,    0x7e, 0x42, 0x42, 0x42, 0x42, 0x42,
                                                    0x42, 0x42, 0x42, 0x7e, 0,    0,    0,    0};
    size_t begin = 0, end = (size_t)(embedded_font_8x16_end - embedded_font_8x16) / LINE;
    memset(rows, 0, BITMAP_FONT_HEIGHT);
    if (is_blank(code_point))
        return;
    while (begin < end) {
        size_t middle = (begin + end) / 2;
        const unsigned char *line = embedded_font_8x16 + middle * LINE;
        uint32_t found = hex(line, 4);
        if (found == code_point) {
            for (int i = 0; i < BITMAP_FONT_HEIGHT; i++)
                rows[i] = (uint8_t)hex(line + 5 + 2 * i, 2);
            return;
        }
        if (found < code_point)
            begin = middle + 1;
        else
            end = middle;
    }
    memcpy(rows, box, sizeof box);
}
