#include "common/base/message.h"
#include "tests/support/tap.h"
#ifdef WITH_TIFF
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>

#include "common/base/files.h"
#include "formats/images/image.h"

/* Kinds of TIFF of which there is no file in tests/golden/data/formats, and damaged ones. */

struct tiff_kind {
    const char *name;
    int bits, samples, photometric, planar, format, tile;
    const char *reason; /* to be refused for, or NULL */
};

static char *write_tiff(const struct tiff_kind *k, const uint8_t *pixels)
{
    enum { WIDTH = 20, HEIGHT = 18 };
    char *path = path_join(test_folder(), "test.tif");
    TIFF *t = TIFFOpen(path, "w");
    if (!t)
        die("cannot write '%s'", path);
    uint16_t map[3][256];
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++)
            map[c][i] = (uint16_t)(i * 257);
    TIFFSetField(t, TIFFTAG_IMAGEWIDTH, WIDTH);
    TIFFSetField(t, TIFFTAG_IMAGELENGTH, HEIGHT);
    TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, k->bits);
    TIFFSetField(t, TIFFTAG_SAMPLESPERPIXEL, k->samples);
    TIFFSetField(t, TIFFTAG_PHOTOMETRIC, k->photometric);
    TIFFSetField(t, TIFFTAG_PLANARCONFIG, k->planar);
    TIFFSetField(t, TIFFTAG_SAMPLEFORMAT, k->format);
    TIFFSetField(t, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE);
    TIFFSetField(t, TIFFTAG_SOFTWARE, "image_formats");
    if (k->photometric == PHOTOMETRIC_PALETTE)
        TIFFSetField(t, TIFFTAG_COLORMAP, map[0], map[1], map[2]);
    if (k->tile) {
        TIFFSetField(t, TIFFTAG_TILEWIDTH, k->tile);
        TIFFSetField(t, TIFFTAG_TILELENGTH, k->tile);
        for (uint32_t i = 0; i < TIFFNumberOfTiles(t); i++)
            TIFFWriteEncodedTile(t, i, (void *)(uintptr_t)pixels, TIFFTileSize(t));
    } else {
        TIFFSetField(t, TIFFTAG_ROWSPERSTRIP, 7);
        size_t at = 0;
        for (uint32_t i = 0; i < TIFFNumberOfStrips(t); i++) {
            uint32_t rows = i % 3 == 2 ? HEIGHT - 14 : 7;
            tmsize_t n = TIFFVStripSize(t, rows);
            TIFFWriteEncodedStrip(t, i, (void *)(uintptr_t)(pixels + at), n);
            at += (size_t)n;
        }
    }
    TIFFClose(t);
    return path;
}

/* Reads what write_tiff wrote and compares a pixel at (19, 17), whose samples begin at `at` and lie
 * `step` bytes apart. */
static void test_tiff_kind(const struct tiff_kind *k, size_t at, size_t step)
{
    uint8_t pixels[20 * 18 * 8];
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 7 + i / 11);
    char *path = write_tiff(k, pixels);
    struct image image;
    struct error e = {""};
    int status = image_read(&image, path, 0, &e);
    if (k->reason) {
        tap_ok(status != 0 && strstr(e.text, k->reason), "TIFF, %s: %s", k->name, e.text);
    } else if (tap_ok(status == 0 && image.width == 20 && image.height == 18, "TIFF, %s: %s",
                      k->name, e.text)) {
        size_t bytes = (size_t)image.depth / 8, last = image_bytes(&image);
        const uint8_t *got = image.pixels + last - (size_t)image.channels * bytes;
        bool same = true;
        for (size_t c = 0; c < (size_t)image.channels; c++)
            same = same && memcmp(got + c * bytes, pixels + at + c * step, bytes) == 0;
        tap_ok(same, "TIFF, %s: the last pixel", k->name);
    }
    image_release(&image);
    free(path);
}

static void test_lab(void)
{
    const struct tiff_kind k = {"L*a*b*",          8, 3,   PHOTOMETRIC_CIELAB, PLANARCONFIG_CONTIG,
                                SAMPLEFORMAT_UINT, 0, NULL};
    uint8_t pixels[20 * 18 * 3] = {200, 10, 0x85};
    char *path = write_tiff(&k, pixels);
    struct image image;
    struct error e = {""};
    int status = image_read(&image, path, 0, &e);
    tap_ok(status == 0 && image.color == IMAGE_LAB && image.channels == 3 &&
               memcmp(image.pixels, "\xc8\x8a\5\0\x80\x80", 6) == 0,
           "TIFF, L*a*b*: %s", e.text);
    image_release(&image);
    free(path);
}

/* A file in which `tag` lies beyond the end. */
static void expect_lost(const struct tiff_kind *k, uint8_t tag, const char *reason)
{
    static const uint8_t pixels[20 * 18 * 8];
    char *path = write_tiff(k, pixels);
    struct image image;
    struct error e = {""};
    uint8_t *data;
    size_t size;
    CHECK(file_read(&data, &size, path, SIZE_MAX / 2, &e) == 0);
    uint8_t *entry = memmem(data, size, (const uint8_t[]){tag, 1, tag == 49 ? 2 : 3, 0}, 4);
    CHECK(entry);
    memset(entry + 8, 0x70, 4);
    int status = image_decode(&image, data, size, 0, &e);
    if (reason)
        tap_ok(status != 0 && strstr(e.text, reason), "TIFF without tag %d: %s", tag + 256, e.text);
    else
        tap_ok(status == 0 && strstr(image.warning, "beyond its end"), "TIFF without tag %d: %s%s",
               tag + 256, e.text, status == 0 ? image.warning : "");
    image_release(&image);
    free(data);
    free(path);
}

static void test_lost_tags(void)
{
    enum { SOFTWARE = 305 - 256, COLOR_MAP = 320 - 256 };
    struct tiff_kind k = {"", 8,   1, PHOTOMETRIC_PALETTE, PLANARCONFIG_CONTIG, SAMPLEFORMAT_UINT,
                          0,  NULL};
    expect_lost(&k, SOFTWARE, NULL);
    expect_lost(&k, COLOR_MAP, "truncated TIFF: a tag is missing");
}

/* Sets the value of a tag with 16 bits. */
static void patch(uint8_t *data, size_t size, const char entry[4], uint16_t value)
{
    uint8_t *at = memmem(data, size, entry, 4);
    CHECK(at);
    memcpy(at + 8, &value, 2);
}

static void test_hostile_tiff(void)
{
    static const uint8_t pixels[20 * 18 * 8];
    const struct tiff_kind k = {
        "", 8, 1, PHOTOMETRIC_MINISBLACK, PLANARCONFIG_CONTIG, SAMPLEFORMAT_UINT, 0, NULL};
    char *path = write_tiff(&k, pixels);
    struct error e = {""};
    uint8_t *data;
    size_t size;
    CHECK(file_read(&data, &size, path, SIZE_MAX / 2, &e) == 0);
    patch(data, size, "\0\1\3\0", 40000);   /* width */
    patch(data, size, "\x15\1\3\0", 65535); /* samples per pixel */
    struct image image;
    int status = image_decode(&image, data, size, 0, &e);
    tap_ok(status != 0 && strstr(e.text, "bad TIFF: a strip of "), "a huge strip: %s", e.text);
    image_release(&image);
    free(data);
    free(path);
}

/* A fax of 128x128, of which the file has the first `bytes` bytes of its strip; returns how many it
 * would have. */
static tmsize_t write_fax(const char *path, const uint8_t *strip, tmsize_t bytes, uint8_t *raw)
{
    TIFF *t = TIFFOpen(path, "w");
    CHECK(t);
    TIFFSetField(t, TIFFTAG_IMAGEWIDTH, 128);
    TIFFSetField(t, TIFFTAG_IMAGELENGTH, 128);
    TIFFSetField(t, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISWHITE);
    TIFFSetField(t, TIFFTAG_COMPRESSION, COMPRESSION_CCITTFAX4);
    TIFFSetField(t, TIFFTAG_ROWSPERSTRIP, 128);
    if (strip)
        TIFFWriteEncodedStrip(t, 0, (void *)(uintptr_t)strip, 128 * 16);
    else
        TIFFWriteRawStrip(t, 0, raw, bytes);
    TIFFClose(t);
    if (!strip)
        return bytes;
    t = TIFFOpen(path, "r");
    CHECK(t);
    tmsize_t size = TIFFReadRawStrip(t, 0, raw, 128 * 128);
    TIFFClose(t);
    return size;
}

/* What allocated memory has in it; C libraries other than glibc leave it as it is. */
static void fill_allocations(int byte)
{
#ifdef M_PERTURB
    mallopt(M_PERTURB, byte);
#endif
}

static bool same_twice(const char *path)
{
    struct image images[2] = {0};
    struct error e;
    int status = 0;
    for (int i = 0; i < 2 && status == 0; i++) {
        fill_allocations(i ? 0x55 : 0xaa);
        status = image_read(&images[i], path, 0, &e);
    }
    fill_allocations(0);
    bool same =
        status != 0 || memcmp(images[0].pixels, images[1].pixels, image_bytes(&images[0])) == 0;
    for (int i = 0; i < 2; i++)
        image_release(&images[i]);
    return same;
}

/* Rows that libtiff leaves out must not show what was in memory. */
static void test_damaged_fax(void)
{
    uint8_t strip[128 * 16], raw[128 * 128];
    for (size_t i = 0; i < sizeof strip; i++)
        strip[i] = (uint8_t)(i * i >> 3);
    char *path = path_join(test_folder(), "fax.tif");
    tmsize_t size = write_fax(path, strip, 0, raw), different = 0;
    for (tmsize_t i = 0; i < size; i += 17) {
        raw[i] ^= 0xff;
        write_fax(path, NULL, size, raw);
        raw[i] ^= 0xff;
        different += !same_twice(path);
    }
    tap_ok(different == 0, "damaged faxes have the same pixels each time");
    free(path);
}

/* Pixels of the first row, as Pillow would clip them. */
static void expect_clipped(const char *name, int bits, int format, const void *values,
                           const char *want)
{
    const struct tiff_kind k = {name,   bits, 1,   PHOTOMETRIC_MINISBLACK, PLANARCONFIG_CONTIG,
                                format, 0,    NULL};
    uint8_t pixels[20 * 18 * 4] = {0};
    memcpy(pixels, values, (size_t)bits / 8 * 6);
    char *path = write_tiff(&k, pixels);
    struct image image;
    struct error e = {""};
    int status = image_read_with(&image, path, &(struct image_options){.clip_gray = true}, &e);
    tap_ok(status == 0 && image.channels == 1 && image.depth == 8 &&
               memcmp(image.pixels, want, 7) == 0,
           "TIFF, %s, clipped: %s", name, e.text);
    image_release(&image);
    free(path);
}

static void test_clipped(void)
{
    const float floats[6] = {-1, 0.9f, 1, 254.9f, 256, NAN};
    expect_clipped("floats", 32, SAMPLEFORMAT_IEEEFP, floats, "\0\0\1\xfe\xff\0\0");
    const int16_t shorts[6] = {-1, 7, 255, 256, 32767, -32768};
    expect_clipped("16 bits and sign", 16, SAMPLEFORMAT_INT, shorts, "\0\7\xff\xff\xff\0\0");
    const int32_t longs[6] = {-1, 7, 255, 256, INT32_MAX, INT32_MIN};
    expect_clipped("32 bits and sign", 32, SAMPLEFORMAT_INT, longs, "\0\7\xff\xff\xff\0\0");
    expect_clipped("32 bits", 32, SAMPLEFORMAT_UINT, longs, "\0\7\xff\xff\xff\0\0");
}

static void test_kinds(void)
{
    enum { CONTIG = PLANARCONFIG_CONTIG, SEPARATE = PLANARCONFIG_SEPARATE };
    enum { UINT = SAMPLEFORMAT_UINT, RGB = PHOTOMETRIC_RGB, BLACK = PHOTOMETRIC_MINISBLACK };
    const size_t n = (size_t)20 * 18, inside = (size_t)1 * 16 + 3; /* of the last tile */
    test_tiff_kind(&(struct tiff_kind){"RGB", 8, 3, RGB, CONTIG, UINT, 0, NULL}, (n - 1) * 3, 1);
    test_tiff_kind(&(struct tiff_kind){"RGB in planes", 8, 3, RGB, SEPARATE, UINT, 0, NULL}, n - 1,
                   n);
    test_tiff_kind(&(struct tiff_kind){"RGB of 16 bits", 16, 3, RGB, CONTIG, UINT, 0, NULL},
                   (n - 1) * 6, 2);
    test_tiff_kind(&(struct tiff_kind){"RGB and alpha", 8, 4, RGB, CONTIG, UINT, 0, NULL},
                   (n - 1) * 4, 1);
    test_tiff_kind(&(struct tiff_kind){"RGB in tiles", 8, 3, RGB, CONTIG, UINT, 16, NULL},
                   inside * 3, 1);
    test_tiff_kind(&(struct tiff_kind){"gray of 16 bits", 16, 1, BLACK, CONTIG, UINT, 16, NULL},
                   inside * 2, 2);
    test_tiff_kind(
        &(struct tiff_kind){"a palette", 8, 1, PHOTOMETRIC_PALETTE, CONTIG, UINT, 0, NULL}, n - 1,
        0);
    test_tiff_kind(&(struct tiff_kind){"floats", 32, 1, BLACK, CONTIG, SAMPLEFORMAT_IEEEFP, 0,
                                       "unsupported TIFF: floating-point samples"},
                   0, 0);
    test_tiff_kind(&(struct tiff_kind){"32 bits", 32, 1, BLACK, CONTIG, UINT, 0,
                                       "unsupported TIFF: 1 samples of 32 bits"},
                   0, 0);
    test_tiff_kind(&(struct tiff_kind){"L*a*b* of 16 bits", 16, 3, PHOTOMETRIC_CIELAB, CONTIG, UINT,
                                       0, "unsupported TIFF: this kind of L*a*b* colors"},
                   0, 0);
}
#endif

int main(void)
{
    message_init("image_tiff");
#ifdef WITH_TIFF
    test_kinds();
    test_lab();
    test_lost_tags();
    test_clipped();
    test_hostile_tiff();
    test_damaged_fax();
#else
    tap_skip("built without TIFF", "kinds of TIFF");
#endif
    return tap_done();
}
