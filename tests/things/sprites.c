#include "tests/things/sprites.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/things/things.h"

#define FAINT 16 /* opacity up to which margins are cropped */

struct sprites {
    struct sprite items[THINGS];
};

struct box {
    int left, top, right, bottom; /* exclusive */
};

static struct box opaque_part(const FT_Bitmap *b)
{
    struct box box = {(int)b->width, (int)b->rows, 0, 0};
    for (int y = 0; y < (int)b->rows; y++)
        for (int x = 0; x < (int)b->width; x++) {
            if (b->buffer[y * b->pitch + 4 * x + 3] <= FAINT)
                continue;
            box.left = x < box.left ? x : box.left;
            box.right = x >= box.right ? x + 1 : box.right;
            box.top = y < box.top ? y : box.top;
            box.bottom = y + 1;
        }
    return box;
}

/* From FreeType's order BGRA. */
static void copy_part(struct sprite *s, const FT_Bitmap *b, struct box box)
{
    s->width = box.right - box.left;
    s->height = box.bottom - box.top;
    s->rgba = xmalloc(4 * (size_t)s->width * (size_t)s->height);
    for (int i = 0; i < s->width * s->height; i++) {
        const uint8_t *from =
            b->buffer + (box.top + i / s->width) * b->pitch + 4 * (box.left + i % s->width);
        const uint8_t rgba[4] = {from[2], from[1], from[0], from[3]};
        memcpy(s->rgba + 4 * i, rgba, 4);
    }
}

static int read_sprite(struct sprite *s, FT_Face face, int thing, struct error *e)
{
    FT_UInt glyph = FT_Get_Char_Index(face, things[thing].code);
    if (glyph == 0 || FT_Load_Glyph(face, glyph, FT_LOAD_COLOR) != 0 ||
        face->glyph->bitmap.pixel_mode != FT_PIXEL_MODE_BGRA)
        return error_set(e, "it has no bitmap in color of %s (U+%04X)", things[thing].name,
                         (unsigned)things[thing].code);
    struct box box = opaque_part(&face->glyph->bitmap);
    if (box.right <= box.left)
        return error_set(e, "its bitmap of %s is empty", things[thing].name);
    copy_part(s, &face->glyph->bitmap, box);
    return 0;
}

static int read_all(struct sprites *s, FT_Library library, const char *font, struct error *e)
{
    FT_Face face;
    if (FT_New_Face(library, font, 0, &face) != 0)
        return error_set(e, "not a font that FreeType can read (Debian package "
                            "fonts-noto-color-emoji has the right one)");
    int status = face->num_fixed_sizes > 0 && FT_Select_Size(face, 0) == 0
                     ? 0
                     : error_set(e, "it has no bitmaps");
    for (int i = 0; i < THINGS && status == 0; i++)
        status = read_sprite(&s->items[i], face, i, e);
    FT_Done_Face(face);
    return status;
}

int sprites_open(struct sprites **sprites, const char *font, struct error *e)
{
    FT_Library library;
    if (FT_Init_FreeType(&library) != 0)
        return error_set(e, "FreeType cannot be initialized");
    *sprites = xcalloc(1, sizeof **sprites);
    int status = read_all(*sprites, library, font, e);
    FT_Done_FreeType(library);
    if (status < 0)
        sprites_free(*sprites);
    return status;
}

const struct sprite *sprites_get(const struct sprites *s, int thing)
{
    CHECK(thing >= 0 && thing < THINGS);
    return &s->items[thing];
}

void sprites_free(struct sprites *s)
{
    for (int i = 0; s && i < THINGS; i++)
        free(s->items[i].rgba);
    free(s);
}
