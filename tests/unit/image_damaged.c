#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <webp/encode.h>
#include <zlib.h>

#include "common/base/message.h"
#include "formats/images/image.h"
#include "tests/support/tap.h"

/* Damaged and truncated files that can be read all the same, and where an orientation may be. */

enum { SIDE = 48 };

struct bytes {
    uint8_t *data;
    size_t size;
};

static void make(struct image *image, int channels, int depth)
{
    struct error e;
    CHECK(image_new(image, SIDE, SIDE, channels, depth, &e) == 0);
    uint32_t x = 1;
    for (size_t i = 0; i < image_bytes(image); i++) {
        x = x * 1664525 + 1013904223; /* does not compress, so that a cut is where one expects it */
        image->pixels[i] = (uint8_t)(x >> 24);
    }
}

static struct bytes make_png(const struct image *image)
{
    struct bytes b;
    struct error e;
    CHECK(png_encode(&b.data, &b.size, image, NULL, 0, 6, &e) == 0);
    return b;
}

/* A smooth image; its only APP1 marker is `app1`. */
static struct bytes make_jpeg(const void *app1, size_t size)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long n = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &data, &n);
    c.image_width = c.image_height = SIDE;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 95, TRUE);
    jpeg_start_compress(&c, TRUE);
    if (size)
        jpeg_write_marker(&c, JPEG_APP0 + 1, app1, (unsigned int)size);
    for (int y = 0; y < SIDE; y++) {
        uint8_t row[3 * SIDE];
        JSAMPROW rows[] = {row};
        for (int x = 0; x < 3 * SIDE; x++)
            row[x] = (uint8_t)(x * y / 8 + 3 * y);
        jpeg_write_scanlines(&c, rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return (struct bytes){data, n};
}

/* A copy with a chunk of PNG after the header. */
static struct bytes with_chunk(const struct bytes *png, const char *type, const void *data,
                               size_t size)
{
    enum { AFTER_HEADER = 33 };
    struct bytes b = {xmalloc(png->size + size + 12), png->size + size + 12};
    uint8_t *p = b.data + AFTER_HEADER;
    memcpy(b.data, png->data, AFTER_HEADER);
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(size >> (24 - 8 * i));
    memcpy(p + 4, type, 4);
    memcpy(p + 8, data, size);
    uint32_t crc = (uint32_t)crc32_z(0, p + 4, size + 4);
    for (int i = 0; i < 4; i++)
        p[8 + size + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
    memcpy(p + size + 12, png->data + AFTER_HEADER, png->size - AFTER_HEADER);
    return b;
}

static int decode(struct image *image, const uint8_t *data, size_t size, bool allow,
                  struct error *e)
{
    const struct image_options o = {.allow_truncated = allow, .missing = 128};
    uint8_t *copy = xmalloc(size); /* exact size, so that a sanitizer detects overreads */
    memcpy(copy, data, size);
    *e = (struct error){""};
    int status = image_decode_with(image, copy, size, &o, e);
    free(copy);
    return status;
}

static bool same(const struct image *a, const struct image *b, size_t bytes)
{
    return image_bytes(a) == image_bytes(b) && memcmp(a->pixels, b->pixels, bytes) == 0;
}

static void test_png_end(void)
{
    struct image in, out;
    struct error e;
    make(&in, 3, 8);
    struct bytes png = make_png(&in);
    int status = decode(&out, png.data, png.size - 12, false, &e);
    tap_ok(status == 0 && same(&in, &out, image_bytes(&in)) && strstr(out.warning, "IEND") &&
               !out.truncated,
           "PNG without IEND: %s%s", e.text, status == 0 ? out.warning : "");
    image_release(&out);
    png.data[png.size - 1] ^= 1;
    status = decode(&out, png.data, png.size, false, &e);
    tap_ok(status == 0 && same(&in, &out, image_bytes(&in)) && strstr(out.warning, "CRC"),
           "PNG with a bad CRC of IEND: %s%s", e.text, status == 0 ? out.warning : "");
    image_release(&out);
    png.data[png.size - 30] ^= 1; /* amid the pixels, or their checksum */
    tap_ok(decode(&out, png.data, png.size, true, &e) != 0, "PNG with bad pixels: %s", e.text);
    free(png.data);
    image_release(&in);
}

/* Whether the rows that have not come are gray, and opaque. */
static bool is_gray(const struct image *image, size_t from_row)
{
    size_t channels = (size_t)image->channels, bytes = (size_t)image->depth / 8;
    size_t row = (size_t)image->width * channels * bytes;
    for (size_t i = from_row * row; i < image_bytes(image); i++) {
        bool opacity = image->alpha && i / bytes % channels == channels - 1;
        if (image->pixels[i] != (opacity ? 255 : 128))
            return false;
    }
    return true;
}

static void test_truncated_png(void)
{
    for (int channels = 1; channels <= 4; channels++)
        for (int depth = 8; depth <= 16; depth += 8) {
            struct image in, out;
            struct error e;
            make(&in, channels, depth);
            struct bytes png = make_png(&in);
            size_t half = image_bytes(&in) / 2, cut = png.size / 2;
            tap_ok(decode(&out, png.data, cut, false, &e) != 0 &&
                       strcmp(e.text, "truncated PNG") == 0,
                   "half a PNG of %d channels: %s", channels, e.text);
            int status = decode(&out, png.data, cut, true, &e);
            tap_ok(status == 0 && out.truncated && strstr(out.warning, "truncated PNG") &&
                       same(&in, &out, half * 9 / 10) && is_gray(&out, SIDE * 6 / 10),
                   "half a PNG of %d channels, allowed: %s", channels, e.text);
            image_release(&out);
            tap_ok(decode(&out, png.data, 40, true, &e) != 0, "a PNG without pixels: %s", e.text);
            free(png.data);
            image_release(&in);
        }
}

static void test_jpeg_markers(void)
{
    struct image whole, out;
    struct error e;
    struct bytes jpeg = make_jpeg(NULL, 0);
    CHECK(decode(&whole, jpeg.data, jpeg.size, false, &e) == 0);
    uint8_t *marked = xmalloc(jpeg.size);
    memcpy(marked, jpeg.data, jpeg.size);
    memcpy(marked + jpeg.size * 3 / 4, "\xff\x01", 2); /* it has no length */
    int status = decode(&out, marked, jpeg.size, false, &e);
    tap_ok(status == 0 && out.warning[0] && !out.truncated,
           "JPEG with a stray marker amid its pixels: %s%s", e.text,
           status == 0 ? out.warning : "");
    image_release(&out);
    memcpy(marked + jpeg.size * 3 / 4, "\xff\xd9", 2);
    tap_ok(decode(&out, marked, jpeg.size, false, &e) != 0 && strstr(e.text, "truncated JPEG"),
           "JPEG with an early end: %s", e.text);
    for (int cut = 0; cut < 2; cut++) {
        size_t size = cut ? jpeg.size * 3 / 4 : jpeg.size;
        status = decode(&out, marked, size, true, &e);
        tap_ok(status == 0 && out.truncated && strstr(out.warning, "truncated JPEG") &&
                   same(&out, &whole, image_bytes(&out) / 4) &&
                   !same(&out, &whole, image_bytes(&out)),
               "JPEG %s, allowed: %s", cut ? "cut off" : "with an early end", e.text);
        image_release(&out);
    }
    tap_ok(decode(&out, jpeg.data, 100, true, &e) != 0, "JPEG without pixels: %s", e.text);
    memcpy(marked, jpeg.data, jpeg.size);
    marked[jpeg.size - 1] = 0xdb; /* a table that the file has no bytes of, for the end */
    status = decode(&out, marked, jpeg.size, false, &e);
    tap_ok(status == 0 && strstr(out.warning, "without its end marker") && !out.truncated &&
               same(&out, &whole, image_bytes(&out)),
           "JPEG without an end: %s%s", e.text, status == 0 ? out.warning : "");
    image_release(&out);
    image_release(&whole);
    free(marked);
    free(jpeg.data);
}

static void test_truncated_webp(void)
{
    struct image in, out;
    struct error e;
    struct bytes webp;
    make(&in, 4, 8);
    for (size_t i = 3; i < image_bytes(&in); i += 4)
        in.pixels[i] |= 1;
    webp.size = WebPEncodeLosslessRGBA(in.pixels, SIDE, SIDE, 4 * SIDE, &webp.data);
    size_t cut = webp.size / 2;
    tap_ok(decode(&out, webp.data, cut, false, &e) != 0 && strcmp(e.text, "truncated WebP") == 0,
           "half a WebP: %s", e.text);
    int status = decode(&out, webp.data, cut, true, &e);
    tap_ok(status == 0 && out.truncated && same(&in, &out, image_bytes(&in) / 8) &&
               is_gray(&out, SIDE * 3 / 4),
           "half a WebP, allowed: %s", e.text);
    image_release(&out);
    status = decode(&out, webp.data, webp.size, true, &e);
    tap_ok(status == 0 && !out.truncated && same(&in, &out, image_bytes(&in)),
           "a whole WebP, with truncated ones allowed: %s", e.text);
    image_release(&out);
    WebPFree(webp.data);
    image_release(&in);
}

#define TIFF_6 "MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0\0\0\0"

static void expect_6(const char *name, struct bytes file)
{
    struct image image;
    struct error e;
    int status = decode(&image, file.data, file.size, false, &e);
    tap_ok(status == 0 && image.orientation == 6, "%s turns the image: %s", name, e.text);
    image_release(&image);
    free(file.data);
}

/* ImageMagick's form of a profile in a text chunk of PNG; returns its length. */
static size_t raw_profile(char *out, size_t size)
{
    static const char exif[] = "Exif\0\0" TIFF_6;
    size_t n = (size_t)snprintf(out, size, "\nexif\n%8zu", sizeof exif - 1);
    for (size_t i = 0; i < sizeof exif - 1; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%02x", i % 36 ? "" : "\n", (uint8_t)exif[i]);
    return n;
}

static void test_orientations(void)
{
    static const char twice[] = "Exif\0\0Exif\0\0" TIFF_6, prefixed[] = "Exif\0\0" TIFF_6;
    static const char xmp[] = "<x:xmpmeta><rdf:Description tiff:Orientation=\"6\"/></x:xmpmeta>";
    static const char element[] = "<tiff:Orientation>6</tiff:Orientation>";
    char text[600], profile[400];
    size_t n = raw_profile(profile, sizeof profile);
    struct image in;
    make(&in, 3, 8);
    struct bytes png = make_png(&in);
    expect_6("EXIF with a doubled prefix", make_jpeg(twice, sizeof twice - 1));
    expect_6("a PNG's eXIf with a prefix", with_chunk(&png, "eXIf", prefixed, sizeof prefixed - 1));
    memcpy(text, "http://ns.adobe.com/xap/1.0/", 29);
    memcpy(text + 29, xmp, sizeof xmp);
    expect_6("XMP in a JPEG", make_jpeg(text, 29 + sizeof xmp - 1));
    memcpy(text, "XML:com.adobe.xmp\0\0\0\0\0", 22);
    memcpy(text + 22, element, sizeof element);
    expect_6("XMP in a PNG", with_chunk(&png, "iTXt", text, 22 + sizeof element - 1));
    memcpy(text, "Raw profile type exif", 22);
    memcpy(text + 22, profile, n);
    expect_6("a raw profile in a tEXt", with_chunk(&png, "tEXt", text, 22 + n));
    text[22] = 0;
    uLongf packed = sizeof text - 23;
    CHECK(compress((uint8_t *)text + 23, &packed, (uint8_t *)profile, n) == Z_OK);
    expect_6("a raw profile in a zTXt", with_chunk(&png, "zTXt", text, 23 + packed));
    free(png.data);
    image_release(&in);
}

int main(void)
{
    message_init("image_damaged");
    test_png_end();
    test_truncated_png();
    test_jpeg_markers();
    test_truncated_webp();
    test_orientations();
    return tap_done();
}
