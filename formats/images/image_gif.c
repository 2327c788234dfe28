#include <stdlib.h>
#include <string.h>

#include <gif_lib.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"
#include "common/base/lazy_library.h"

#define FUNCTIONS(X)                                                                               \
    X(GifErrorString)                                                                              \
    X(DGifGetRecordType)                                                                           \
    X(DGifGetExtension)                                                                            \
    X(DGifExtensionToGCB)                                                                          \
    X(DGifGetExtensionNext)                                                                        \
    X(DGifGetLine)                                                                                 \
    X(DGifGetImageDesc)                                                                            \
    X(DGifOpen)                                                                                    \
    X(DGifCloseFile)

static struct {
    FUNCTIONS(LAZY_FUNCTION)
} lib;
static struct lazy_library library = LAZY_LIBRARY("GIF", SONAME_GIF, FUNCTIONS);

struct gif_reader {
    GifFileType *gif;
    const uint8_t *data;
    size_t size, at;
    bool ended;      /* giflib asked for more than there is */
    int transparent; /* index of the transparent color; -1: none */
};

static int read_bytes(GifFileType *gif, GifByteType *out, int n)
{
    struct gif_reader *r = gif->UserData;
    size_t left = r->size - r->at, count = (size_t)n < left ? (size_t)n : left;
    r->ended = r->ended || count < (size_t)n;
    memcpy(out, r->data + r->at, count);
    r->at += count;
    return (int)count;
}

static int explain(const struct gif_reader *r, int code, struct error *e)
{
    if (r->ended)
        return error_set(e, "truncated GIF");
    const char *text = lib.GifErrorString(code);
    return error_set(e, "bad GIF: %s", text ? text : "unknown error");
}

/* Goes to the next image; returns 0 if there is none, -1 after an error. */
static int find_image(struct gif_reader *r)
{
    GifRecordType kind = UNDEFINED_RECORD_TYPE;
    while (lib.DGifGetRecordType(r->gif, &kind) == GIF_OK && kind != TERMINATE_RECORD_TYPE) {
        GifByteType *block;
        int code;
        if (kind == IMAGE_DESC_RECORD_TYPE)
            return 1;
        if (lib.DGifGetExtension(r->gif, &code, &block) != GIF_OK)
            return -1;
        while (block) {
            GraphicsControlBlock control;
            if (code == GRAPHICS_EXT_FUNC_CODE &&
                lib.DGifExtensionToGCB(block[0], block + 1, &control))
                r->transparent = control.TransparentColor;
            if (lib.DGifGetExtensionNext(r->gif, &block) != GIF_OK)
                return -1;
        }
    }
    return kind == TERMINATE_RECORD_TYPE ? 0 : -1;
}

/* As Pillow: without a color table, indices are gray levels; beyond it, they are black. */
static void fill_palette(uint8_t palette[256][4], const struct gif_reader *r)
{
    const ColorMapObject *colors =
        r->gif->Image.ColorMap ? r->gif->Image.ColorMap : r->gif->SColorMap;
    for (int i = 0; i < 256; i++) {
        GifColorType gray = {(uint8_t)i, (uint8_t)i, (uint8_t)i}, color = {0, 0, 0};
        if (!colors)
            color = gray;
        else if (i < colors->ColorCount)
            color = colors->Colors[i];
        palette[i][0] = color.Red;
        palette[i][1] = color.Green;
        palette[i][2] = color.Blue;
        palette[i][3] = i == r->transparent ? 0 : 255;
    }
}

/* The canvas around the frame has the transparent color, or else the first. */
static void fill_canvas(struct image *image, const uint8_t *color)
{
    size_t channels = (size_t)image->channels;
    uint8_t *to = image->pixels;
    for (size_t i = 0; i < (size_t)image->width * (size_t)image->height; i++, to += channels)
        memcpy(to, color, channels);
}

static int read_row(struct image *image, struct gif_reader *r, uint8_t palette[256][4],
                    GifPixelType *line, int y)
{
    const GifImageDesc *frame = &r->gif->Image;
    if (lib.DGifGetLine(r->gif, line, frame->Width) != GIF_OK)
        return -1;
    size_t channels = (size_t)image->channels;
    uint8_t *to =
        image->pixels +
        ((size_t)(frame->Top + y) * (size_t)image->width + (size_t)frame->Left) * channels;
    for (int x = 0; x < frame->Width; x++, to += channels)
        memcpy(to, palette[line[x]], channels);
    return 0;
}

static int read_rows(struct image *image, struct gif_reader *r, uint8_t palette[256][4])
{
    /* GIF89a, appendix E: the four passes of an interlaced image. */
    static const int first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    const GifImageDesc *frame = &r->gif->Image;
    GifPixelType *line = malloc((size_t)frame->Width);
    int status = line ? 0 : -1, passes = frame->Interlace ? 4 : 1;
    for (int pass = 0; pass < passes; pass++)
        for (int y = frame->Interlace ? first[pass] : 0; y < frame->Height && status == 0;
             y += frame->Interlace ? step[pass] : 1)
            status = read_row(image, r, palette, line, y);
    free(line);
    return status;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static int decode(struct image *image, struct gif_reader *r, int64_t max_pixels, struct error *e)
{
    int found = find_image(r);
    if (found == 0)
        return error_set(e, "bad GIF: it has no image");
    if (found < 0 || lib.DGifGetImageDesc(r->gif) != GIF_OK)
        return explain(r, r->gif->Error, e);
    const GifImageDesc *frame = &r->gif->Image;
    int width = max_int(r->gif->SWidth, frame->Left + frame->Width);
    int height = max_int(r->gif->SHeight, frame->Top + frame->Height);
    if (frame->Width <= 0 || frame->Height <= 0)
        return error_set(e, "the image is empty: %dx%d pixels", frame->Width, frame->Height);
    if (image_check_pixels(width, height, max_pixels, e) != 0 ||
        image_allocate(image, width, height, r->transparent >= 0 ? 4 : 3, 8, e) != 0)
        return -1;
    image->alpha_from_key = image->alpha;
    uint8_t palette[256][4];
    fill_palette(palette, r);
    fill_canvas(image, palette[max_int(r->transparent, 0)]);
    if (read_rows(image, r, palette) != 0)
        return explain(r, r->gif->Error, e);
    found = find_image(r);
    image->first_of_several = found > 0;
    if (found < 0)
        image_set_warning(image, "GIF damaged or truncated after the first frame");
    return 0;
}

int image_gif_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e)
{
    if (lazy_library_load(&library, &lib, e) != 0)
        return -1;
    struct gif_reader r = {.data = data, .size = size, .transparent = -1};
    int code = 0;
    image->format = IMAGE_GIF;
    r.gif = lib.DGifOpen(&r, read_bytes, &code);
    if (!r.gif)
        return explain(&r, code, e);
    int status = decode(image, &r, o->max_pixels, e);
    lib.DGifCloseFile(r.gif, &code);
    return status;
}
