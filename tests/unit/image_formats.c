#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/images/image.h"
#include "tests/support/tap.h"

/* What tests/golden/images does not see: limits, truncated files, first frames, and kinds of BMP
 * of which there is no file in tests/golden/data/formats. */

static const struct {
    const char *name;
    enum image_format format;
    int width, height, orientation;
    bool several, icc, alpha;
} files[] = {
    {"palette4.bmp", IMAGE_BMP, 48, 40, 1, false, false, false},
    {"bitfields565_topdown.bmp", IMAGE_BMP, 48, 40, 1, false, false, false},
    {"rle8.bmp", IMAGE_BMP, 48, 40, 1, false, false, false},
    {"animated.gif", IMAGE_GIF, 48, 40, 1, true, false, false},
    {"offset_transparent.gif", IMAGE_GIF, 48, 40, 1, false, false, true},
    {"animated.webp", IMAGE_WEBP, 40, 30, 1, true, false, true},
    {"lzw_orientation6.tif", IMAGE_TIFF, 48, 40, 6, false, false, false},
    {"premultiplied.tif", IMAGE_TIFF, 48, 40, 1, false, false, true},
    {"cmyk.tif", IMAGE_TIFF, 48, 40, 1, false, false, false},
    {"gray16.tif", IMAGE_TIFF, 48, 40, 1, false, false, false},
    {"group4.tif", IMAGE_TIFF, 48, 40, 1, false, false, false},
    {"p3.tif", IMAGE_TIFF, 48, 40, 1, false, true, false},
    {"rgba.heic", IMAGE_HEIF, 48, 40, 1, false, false, true},
    {"rotated.heic", IMAGE_HEIF, 40, 48, 1, false, false, false},
    {"p3.heic", IMAGE_HEIF, 48, 40, 1, false, true, false},
    {"rgba.avif", IMAGE_AVIF, 48, 40, 1, false, false, true},
    {"rotated.avif", IMAGE_AVIF, 48, 40, 6, false, false, false},
    {"p3.avif", IMAGE_AVIF, 48, 40, 1, false, true, false},
    {"rgba.jxl", IMAGE_JXL, 48, 40, 1, false, true, true},
    {"lossy.jxl", IMAGE_JXL, 48, 40, 1, false, true, false},
    {"from_jpeg.jxl", IMAGE_JXL, 48, 40, 8, false, false, false},
    {"p3.jxl", IMAGE_JXL, 48, 40, 1, false, true, false},
};

static uint8_t *load(const char *name, size_t *size)
{
    char *path = xasprintf("tests/golden/data/formats/%s", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        die("cannot open '%s'", path);
    uint8_t *data = xmalloc(1 << 16);
    *size = fread(data, 1, 1 << 16, f);
    fclose(f);
    free(path);
    return data;
}

/* Each beginning of the file is refused, or has all the pixels. */
static void check_truncations(const char *name, const uint8_t *data, size_t size,
                              const struct image *whole)
{
    size_t wrong = 0, refused = 0, step = 1 + size / 400;
    size_t least = whole->first_of_several ? 3 : 9; /* of 10; frames that follow may be missing */
    for (size_t n = 1; n < size; n += step) {
        struct image image;
        struct error e = {""};
        uint8_t *copy = xmalloc(n); /* exact size, so that a sanitizer detects overreads */
        memcpy(copy, data, n);
        if (image_decode(&image, copy, n, 0, &e) != 0)
            refused++;
        else if (image_bytes(&image) != image_bytes(whole) ||
                 memcmp(image.pixels, whole->pixels, image_bytes(whole)) != 0)
            wrong++;
        image_release(&image);
        free(copy);
    }
    tap_ok(wrong == 0 && refused > (size - 1) / step * least / 10,
           "%s: no truncation shows other pixels, and %zu are refused", name, refused);
}

static void check_limit(const char *name, const uint8_t *data, size_t size,
                        const struct image *whole)
{
    struct image image;
    struct error e = {""};
    int64_t pixels = (int64_t)whole->width * whole->height;
    int status = image_decode(&image, data, size, pixels - 1, &e);
    tap_ok(status != 0 && strstr(e.text, "exceed the limit"), "%s: the limit: %s", name, e.text);
    status = image_decode(&image, data, size, pixels, &e);
    tap_ok(status == 0, "%s: exactly as many pixels as the limit", name);
    image_release(&image);
}

static void test_files(void)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *name = files[i].name;
        struct image image;
        struct error e = {""};
        size_t size;
        uint8_t *data = load(name, &size);
        int status = image_decode(&image, data, size, 0, &e);
        if (status != 0 && strncmp(e.text, "built without ", 14) == 0) {
            tap_ok(strstr(e.text, "-dev and a rebuild") && image_is_known(data, size), "%s",
                   e.text);
            tap_skip(e.text, "%s", name);
        } else if (tap_ok(status == 0 && image.format == files[i].format &&
                              image.width == files[i].width && image.height == files[i].height &&
                              image.orientation == files[i].orientation &&
                              image.first_of_several == files[i].several &&
                              (image.icc != NULL) == files[i].icc &&
                              image.alpha == files[i].alpha && !image.warning[0],
                          "%s is read: %s", name, e.text)) {
            check_limit(name, data, size, &image);
            check_truncations(name, data, size, &image);
        }
        image_release(&image);
        free(data);
    }
}

static void expect(const char *name, const void *data, size_t size, int width, int height,
                   int channels, const uint8_t *want)
{
    struct image image;
    struct error e = {""};
    int status = image_decode(&image, data, size, 0, &e);
    tap_ok(status == 0 && image.width == width && image.height == height &&
               image.channels == channels && memcmp(image.pixels, want, image_bytes(&image)) == 0,
           "%s: %s", name, e.text);
    image_release(&image);
}

static void refuse(const char *name, const void *data, size_t size, const char *reason)
{
    struct image image;
    struct error e = {""};
    int status = image_decode(&image, data, size, 0, &e);
    tap_ok(status != 0 && strstr(e.text, reason), "%s: %s", name, e.text);
    image_release(&image);
}

#define BMP_40(width, height, bits, compression)                                                   \
    "BM\0\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0" width height "\1\0" bits "\0" compression               \
    "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void test_bmp(void)
{
    /* no offset of the pixels: they follow the header */
    static const char rows[] = BMP_40("\2\0\0\0", "\2\0\0\0", "\x18", "\0") "abcdef\0\0ghijkl\0\0";
    expect("BMP of 24 bits, from the bottom up", rows, sizeof rows - 1, 2, 2, 3,
           (const uint8_t *)"ihglkjcbafed");
    static const char down[] = BMP_40("\1\0\0\0", "\xfe\xff\xff\xff", "\x20", "\0") "abcdefgh";
    expect("BMP of 32 bits, from the top down", down, sizeof down - 1, 1, 2, 3,
           (const uint8_t *)"cbagfe");
    static const char five[] = BMP_40("\2\0\0\0", "\1\0\0\0", "\x10", "\0") "\x1f\x7c\x10\x02";
    expect("BMP of 5 bits per channel", five, sizeof five - 1, 2, 1, 3,
           (const uint8_t *)"\xff\0\xff\0\x83\x83");
    static const char os2[] = "BM\0\0\0\0\0\0\0\0\0\0\0\0\x0c\0\0\0\3\0\1\0\1\0\1\0"
                              "\1\2\3\4\5\6\xa0\0\0\0";
    static const uint8_t os2_pixels[] = {6, 5, 4, 3, 2, 1, 6, 5, 4};
    static char placed[sizeof os2];
    memcpy(placed, os2, sizeof os2);
    placed[10] = 26;
    expect("BMP of OS/2 with two colors", placed, sizeof os2 - 1, 3, 1, 3, os2_pixels);
    static const char masks[] =
        BMP_40("\1\0\0\0", "\1\0\0\0", "\x20", "\3") "\0\0\0\xff\0\0\xff\0\0\xff\0\0\1\2\3\4";
    expect("BMP with bit masks", masks, sizeof masks - 1, 1, 1, 3, (const uint8_t *)"\4\3\2");
    refuse("a BMP of a million megapixels", rows, 54, "truncated BMP");
    static const char large[] = BMP_40("\0\0\0\1", "\0\0\0\1", "\x18", "\0");
    refuse("a large BMP", large, sizeof large - 1, "exceed the limit");
    static const char jpeg[] = BMP_40("\1\0\0\0", "\1\0\0\0", "\x18", "\4");
    refuse("a BMP with a JPEG in it", jpeg, sizeof jpeg - 1, "unsupported BMP: compression 4");
}

/* The item of rgba.heic that has its opacity cannot be the primary image. */
static void test_heic_primary(void)
{
    struct image whole, image;
    struct error e = {""};
    size_t size;
    uint8_t *data = load("rgba.heic", &size), *box = memmem(data, size, "pitm", 4);
    CHECK(box && box[9] == 1);
    if (image_decode(&whole, data, size, 0, &e) != 0) {
        tap_skip(e.text, "a HEIC whose primary image belongs to another");
    } else {
        box[9] = 2;
        int status = image_decode(&image, data, size, 0, &e);
        tap_ok(status == 0 && image_bytes(&image) == image_bytes(&whole) &&
                   memcmp(image.pixels, whole.pixels, image_bytes(&whole)) == 0,
               "a HEIC whose primary image belongs to another: %s", e.text);
        image_release(&image);
    }
    image_release(&whole);
    free(data);
}

static void test_names(void)
{
    tap_ok(strncmp(image_formats, "JPEG PNG WebP PNM BMP", 21) == 0, "formats: %s", image_formats);
    refuse("JPEG 2000", "\0\0\0\x0cjP  \r\n\x87\n", 12, "unsupported image format (JPEG 2000)");
    tap_ok(!image_is_known("hello, world", 12), "text is no image");
}

int main(void)
{
    message_init("image_formats");
    test_names();
    test_files();
    test_bmp();
    test_heic_primary();
    return tap_done();
}
