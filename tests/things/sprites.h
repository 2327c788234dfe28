#ifndef CCLD_TESTS_SPRITES_H
#define CCLD_TESTS_SPRITES_H

#include <stdint.h>

#include "common/base/error.h"

/* The bitmaps of all things (tests/things/things.h), from a font with bitmaps in color: Noto Color
 * Emoji, Debian package fonts-noto-color-emoji. */
#define SPRITES_FONT "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"

struct sprite {
    int width, height; /* of the opaque part, to which it is cropped */
    uint8_t *rgba;     /* sRGB, premultiplied with the opacity */
};

struct sprites;

/* Returns 0, or -1 with a reason and nothing to free: a font that cannot be read, or one without a
 * bitmap for a thing. */
int sprites_open(struct sprites **sprites, const char *font, struct error *e);
const struct sprite *sprites_get(const struct sprites *s, int thing);
void sprites_free(struct sprites *s);

#endif
