#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

#include "common/base/message.h"
#include "formats/images/image.h"
#include "tests/support/tap.h"

struct bytes {
    uint8_t *data;
    size_t size;
};

/* A smooth pattern that lossy encoders preserve within a few levels. */
static void fill(struct image *image)
{
    size_t n = image_bytes(image) / (size_t)(image->depth / 8);
    for (size_t i = 0; i < n; i++) {
        size_t c = i % (size_t)image->channels, x = i / (size_t)image->channels;
        double v = (double)(x % (size_t)image->width) * 2 + (double)(x / (size_t)image->width) +
                   40.0 * (double)c;
        if (image->depth == 8)
            image->pixels[i] = (uint8_t)v;
        else
            ((uint16_t *)(void *)image->pixels)[i] = (uint16_t)(v * 200 + 7);
    }
}

static void make(struct image *image, int width, int height, int channels, int depth)
{
    struct error e;
    if (image_new(image, width, height, channels, depth, &e) != 0)
        die("%s", e.text);
    fill(image);
}

struct jpeg_kind {
    const char *name;
    int channels;
    J_COLOR_SPACE in, stored;
    bool progressive;
    int quality;
};

static struct bytes make_jpeg(const struct image *image, const struct jpeg_kind *kind,
                              const uint8_t *exif, size_t exif_size, const uint8_t *icc,
                              size_t icc_size)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *data = NULL;
    unsigned long size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &data, &size);
    c.image_width = (JDIMENSION)image->width;
    c.image_height = (JDIMENSION)image->height;
    c.input_components = image->channels;
    c.in_color_space = kind->in;
    jpeg_set_defaults(&c);
    jpeg_set_colorspace(&c, kind->stored);
    jpeg_set_quality(&c, kind->quality, TRUE);
    if (kind->progressive)
        jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    if (exif_size)
        jpeg_write_marker(&c, JPEG_APP0 + 1, exif, (unsigned)exif_size);
    if (icc_size)
        jpeg_write_icc_profile(&c, icc, (unsigned)icc_size);
    size_t stride = (size_t)image->width * (size_t)image->channels;
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = image->pixels + c.next_scanline * stride;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return (struct bytes){data, size};
}

static int worst_difference(const struct image *a, const struct image *b)
{
    if (image_bytes(a) != image_bytes(b) || a->width != b->width)
        return 256;
    int worst = 0;
    for (size_t i = 0; i < image_bytes(a); i++) {
        int d = abs(a->pixels[i] - b->pixels[i]);
        worst = d > worst ? d : worst;
    }
    return worst;
}

/* Every truncated file must be refused, most of them with that reason. A PNG that lacks only what
 * follows its pixels is read with a warning. */
static void check_truncations(const char *name, const struct bytes *file)
{
    size_t accepted = 0, called_so = 0, step = file->size > 2000 ? 7 : 1;
    struct image whole;
    struct error none;
    CHECK(image_decode(&whole, file->data, file->size, 0, &none) == 0);
    for (size_t size = 1; size < file->size; size += step) {
        struct image image;
        struct error e = {""};
        uint8_t *copy = xmalloc(size); /* exact size, so that a sanitizer detects overreads */
        memcpy(copy, file->data, size);
        if (image_decode(&image, copy, size, 0, &e) == 0 &&
            !(image.format == IMAGE_PNG && image.warning[0] &&
              worst_difference(&image, &whole) == 0)) {
            tap_diag("%s: %zu of %zu bytes were accepted", name, size, file->size);
            accepted++;
        }
        called_so += strncmp(e.text, "truncated ", 10) == 0;
        image_release(&image);
        free(copy);
    }
    image_release(&whole);
    tap_ok(accepted == 0 && called_so > file->size / step / 2, "%s: every truncation is refused",
           name);
}

static void test_jpeg(void)
{
    static const struct jpeg_kind kinds[] = {
        {"baseline JPEG", 3, JCS_RGB, JCS_YCbCr, false, 98},
        {"progressive JPEG", 3, JCS_RGB, JCS_YCbCr, true, 98},
        {"RGB JPEG", 3, JCS_RGB, JCS_RGB, false, 98},
        {"gray JPEG", 1, JCS_GRAYSCALE, JCS_GRAYSCALE, false, 98},
        {"CMYK JPEG", 4, JCS_CMYK, JCS_CMYK, false, 98},
        {"YCCK JPEG", 4, JCS_CMYK, JCS_YCCK, true, 98},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct image in, out;
        struct error e = {""};
        make(&in, 61, 47, kinds[k].channels, 8);
        struct bytes file = make_jpeg(&in, &kinds[k], NULL, 0, NULL, 0);
        if (kinds[k].channels == 4) /* written as light, read as ink */
            for (size_t i = 0; i < image_bytes(&in); i++)
                in.pixels[i] = (uint8_t)(255 - in.pixels[i]);
        int status = image_decode(&out, file.data, file.size, 0, &e);
        tap_ok(status == 0 && worst_difference(&in, &out) <= 8 && out.format == IMAGE_JPEG &&
                   out.color == (kinds[k].channels == 4   ? IMAGE_CMYK
                                 : kinds[k].channels == 1 ? IMAGE_GRAY
                                                          : IMAGE_RGB) &&
                   !out.alpha && out.orientation == 1 && !out.icc,
               "%s is read: %s", kinds[k].name, e.text);
        image_release(&out);
        check_truncations(kinds[k].name, &file);
        image_release(&in);
        free(file.data);
    }
}

static void test_markers(void)
{
    static const struct jpeg_kind kind = {"", 3, JCS_RGB, JCS_YCbCr, false, 90};
    uint8_t exif[] = "Exif\0\0MM\0*\0\0\0\10\0\2"
                     "\1\0\0\3\0\0\0\1\0\1\0\0"
                     "\1\22\0\3\0\0\0\1\0\6\0\0"
                     "\0\0\0\0";
    size_t icc_size = 100000; /* takes two markers */
    uint8_t *icc = xmalloc(icc_size);
    for (size_t i = 0; i < icc_size; i++)
        icc[i] = (uint8_t)(i * 7 >> 3);
    struct image in, out;
    struct error e = {""};
    make(&in, 20, 10, 3, 8);
    for (int orientation = 0; orientation < 10; orientation++) {
        exif[37] = (uint8_t)orientation;
        struct bytes file = make_jpeg(&in, &kind, exif, sizeof exif - 1, icc, icc_size);
        int want = orientation >= 1 && orientation <= 8 ? orientation : 1;
        int status = image_decode(&out, file.data, file.size, 0, &e);
        tap_ok(status == 0 && out.orientation == want && out.icc_size == icc_size &&
                   memcmp(out.icc, icc, icc_size) == 0 && out.width == 20 && out.height == 10,
               "EXIF orientation %d is read as %d, and the profile is complete: %s", orientation,
               want, e.text);
        image_release(&out);
        free(file.data);
    }
    free(icc);
    image_release(&in);
}

static void test_damaged_jpeg(void)
{
    static const struct jpeg_kind kind = {"", 3, JCS_RGB, JCS_YCbCr, false, 90};
    struct image in, out;
    struct error e = {""};
    make(&in, 64, 64, 3, 8);
    struct bytes file = make_jpeg(&in, &kind, NULL, 0, NULL, 0);
    uint8_t *cut = xmalloc(file.size + 16);
    memcpy(cut, file.data, file.size);
    memcpy(cut + file.size * 3 / 4, "\xff\xd9", 2); /* an end marker inside the pixel data */
    tap_ok(image_decode(&out, cut, file.size, 0, &e) < 0 && strstr(e.text, "truncated JPEG: "),
           "truncated pixel data: %s", e.text);
    memcpy(cut, file.data, 2);
    memcpy(cut + 2, "garbage", 7); /* between markers */
    memcpy(cut + 9, file.data + 2, file.size - 2);
    int status = image_decode(&out, cut, file.size + 7, 0, &e);
    tap_ok(status < 0, "garbage instead of the second marker is refused: %s", e.text);
    memcpy(cut, file.data, 20);
    memcpy(cut + 20, "\0garbage", 8);
    memcpy(cut + 28, file.data + 20, file.size - 20);
    status = image_decode(&out, cut, file.size + 8, 0, &e);
    tap_ok(status == 0 && out.warning[0], "garbage between markers is a warning: %s",
           status == 0 ? out.warning : e.text);
    image_release(&out);
    image_release(&in);
    free(cut);
    free(file.data);
}

static void test_png(void)
{
    for (int depth = 8; depth <= 16; depth += 8)
        for (int channels = 1; channels <= 4; channels++) {
            struct image in, out;
            struct bytes file;
            struct error e = {""};
            make(&in, 33, 21, channels, depth);
            int status = png_encode(&file.data, &file.size, &in, NULL, 0, depth == 8 ? 9 : -1, &e);
            if (status == 0)
                status = image_decode(&out, file.data, file.size, 0, &e);
            tap_ok(status == 0 && worst_difference(&in, &out) == 0 && out.depth == depth &&
                       out.channels == channels && out.color == in.color && out.alpha == in.alpha &&
                       !out.alpha_from_key && out.format == IMAGE_PNG,
                   "PNG with %d channels of %d bits: %s", channels, depth, e.text);
            char *name = xasprintf("PNG with %d channels of %d bits", channels, depth);
            if (status == 0) {
                check_truncations(name, &file);
                image_release(&out);
                free(file.data);
            }
            free(name);
            image_release(&in);
        }
}

/* Whether a PNG has this text chunk. */
static bool has_text(const struct bytes *file, const char *chunk, const char *key,
                     const char *value)
{
    for (size_t at = 8; at + 12 <= file->size;) {
        const uint8_t *p = file->data + at;
        size_t length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        size_t skip = strlen(key) + (strcmp(chunk, "iTXt") == 0 ? 5 : 1);
        if (memcmp(p + 4, chunk, 4) == 0 && length == skip + strlen(value) &&
            memcmp(p + 8, key, strlen(key) + 1) == 0 &&
            memcmp(p + 8 + skip, value, strlen(value)) == 0)
            return true;
        at += length + 12;
    }
    return false;
}

static bool keeps_text(const struct bytes *file, const char *key, const char *value)
{
    struct image image;
    struct error e;
    if (image_decode_with(&image, file->data, file->size, &(struct image_options){.text = key},
                          &e) != 0)
        return false;
    bool same = image.text && value ? strcmp(image.text, value) == 0 : image.text == value;
    image_release(&image);
    return same;
}

static void read_texts(struct bytes *file, const struct image_text *texts)
{
    tap_ok(keeps_text(file, "parameters", texts[0].value), "a tEXt chunk is read as UTF-8");
    tap_ok(keeps_text(file, "prompt", texts[1].value), "so is an iTXt chunk");
    tap_ok(keeps_text(file, NULL, NULL) && keeps_text(file, "prom", NULL),
           "other texts, or without a keyword, are not kept");
    uint8_t *caf = memmem(file->data, file->size, "caf", 3);
    *caf ^= 1;
    tap_ok(keeps_text(file, "parameters", NULL), "a damaged text is left out");
    *caf ^= 1;
}

static void test_png_texts(void)
{
    struct image_text texts[] = {
        {"parameters", "a caf\xc3\xa9\nSteps: 50"},
        {"prompt", "\xe7\x8c\xab and \xf0\x9f\x8e\xa8"},
        {"broken", "a\xff\xe7\x8cz\xed\xa0\x80"},
        {"empty", ""},
    };
    struct image image;
    struct bytes file;
    struct error e = {""};
    make(&image, 2, 2, 3, 8);
    int status = png_encode(&file.data, &file.size, &image, texts, 4, 6, &e);
    tap_ok(status == 0 && has_text(&file, "tEXt", "parameters", "a caf\xe9\nSteps: 50"),
           "a Latin-1 text is a tEXt chunk: %s", e.text);
    tap_ok(status == 0 && has_text(&file, "iTXt", "prompt", texts[1].value),
           "any other text is an iTXt chunk");
    tap_ok(status == 0 && has_text(&file, "iTXt", "broken",
                                   "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd"),
           "invalid UTF-8 is replaced");
    tap_ok(status == 0 && has_text(&file, "tEXt", "empty", ""), "a text may be empty");
    if (status == 0)
        read_texts(&file, texts);
    free(status == 0 ? file.data : NULL);
    struct image_text bad = {"", "x"};
    tap_ok(png_encode(&file.data, &file.size, &image, &bad, 1, 6, &e) < 0 && !file.data,
           "a text needs a key: %s", e.text);
    FILE *full = fopen("/dev/full", "w");
    tap_ok(full && png_write(full, &image, NULL, 0, -1, &e) < 0 && strstr(e.text, "space"),
           "a full disk is reported: %s", e.text);
    if (full)
        fclose(full);
    image_release(&image);
}

static void test_webp(void)
{
    for (int channels = 3; channels <= 4; channels++) {
        struct image in, out;
        struct error e = {""};
        struct bytes file = {0};
        make(&in, 40, 30, channels, 8);
        if (channels == 4)
            for (size_t i = 3; i < image_bytes(&in); i += 4)
                in.pixels[i] |= 1; /* encoders may drop the color of invisible pixels */
        file.size = channels == 3 ? WebPEncodeLosslessRGB(in.pixels, 40, 30, 40 * 3, &file.data)
                                  : WebPEncodeLosslessRGBA(in.pixels, 40, 30, 40 * 4, &file.data);
        int status = image_decode(&out, file.data, file.size, 0, &e);
        tap_ok(status == 0 && worst_difference(&in, &out) == 0 && out.alpha == (channels == 4) &&
                   out.format == IMAGE_WEBP,
               "WebP with %d channels: %s", channels, e.text);
        image_release(&out);
        check_truncations("WebP", &file);
        image_release(&in);
        WebPFree(file.data);
    }
    static const char animated[] =
        "RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0\1\0\0\1\0\0ANIM\0\0\0\0";
    struct image out;
    struct error e = {""};
    tap_ok(image_decode(&out, animated, sizeof animated - 1, 0, &e) < 0 &&
               strstr(e.text, "without frames"),
           "an animated WebP without frames is refused: %s", e.text);
}

static void test_pnm(void)
{
    static const struct {
        const char *text;
        size_t size;
        int channels, depth;
        uint8_t want[8];
    } files[] = {
        {"P1\n# x\n3 2\n1 0 1\n010", 0, 1, 8, {0, 255, 0, 255, 0, 255}},
        {"P2 2 1 10 3 10", 0, 1, 8, {76, 255}}, /* 76.5 goes to even, as in Pillow */
        {"P3\n1 1\n255\n1 2 3\n", 0, 3, 8, {1, 2, 3}},
        {"P4\n10 1\n\xa0\x40", 0, 1, 8, {0, 255, 0, 255, 255, 255, 255, 255}},
        {"P5 2 1 255\nab", 0, 1, 8, {'a', 'b'}},
        {"P6 1 1 255 abc", 0, 3, 8, {'a', 'b', 'c'}},
        {"P5 1 2 65535\n\x12\x34\xff\xfe", 0, 1, 16, {0x34, 0x12, 0xfe, 0xff}},
        {"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\nabcd",
         0,
         4,
         8,
         {'a', 'b', 'c', 'd'}},
        {"P7\n#c\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE\nENDHDR\n\1\0",
         77,
         1,
         8,
         {255, 0}},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t size = strlen(files[i].text);
        if (files[i].size)
            size++; /* the data ends with a zero byte */
        struct image out;
        struct error e = {""};
        int status = image_decode(&out, files[i].text, size, 0, &e);
        size_t n = status == 0 ? image_bytes(&out) : 0;
        tap_ok(status == 0 && out.channels == files[i].channels && out.depth == files[i].depth &&
                   memcmp(out.pixels, files[i].want, n < 8 ? n : 8) == 0 &&
                   out.alpha == (n == 4 && out.channels == 4),
               "PNM '%.2s', maxval %d: %s", files[i].text, out.source_maxval, e.text);
        image_release(&out);
        struct bytes file = {(uint8_t *)(uintptr_t)files[i].text, size};
        if (files[i].text[1] >= '4')
            check_truncations("PNM", &file);
    }
}

static void expect_refusal(const void *data, size_t size, const char *reason)
{
    struct image image;
    struct error e = {""};
    int status = image_decode(&image, data, size, 0, &e);
    tap_ok(status < 0 && strcmp(e.text, reason) == 0, "refused: %s", e.text);
    image_release(&image);
}

static void test_refusals(void)
{
    struct image image;
    struct error e = {""};
    expect_refusal("", 0, "empty file");
    expect_refusal("hello, world", 12, "not an image (unknown format)");
    expect_refusal("8BPS........", 12, "unsupported image format (Photoshop)");
#ifndef WITH_GIF
    expect_refusal("GIF89a......", 12, "built without GIF: needs libgif-dev and a rebuild");
#endif
    expect_refusal("P6\n20000 20000\n255\n", 19,
                   "20000x20000 pixels exceed the limit of 200000000");
    expect_refusal("P5 0 5 255\n", 11, "the image is empty: 0x5 pixels");
    expect_refusal("P5 99999999999 5 255\n", 21, "bad PNM: a number in the header is too large");
    expect_refusal("P5 1 1 65536\na", 14, "bad PNM: maxval 65536 is not in 1 to 65535");
    expect_refusal("\x89PNG\r\n\x1a\n", 8, "truncated PNG");
    expect_refusal("\xff\xd8\xff", 3, "truncated JPEG");
    expect_refusal("RIFF\x10\0\0\0WEBPVP8 ", 16, "truncated WebP");
    const char *folder = test_folder();
    tap_ok(image_read(&image, folder, 0, &e) < 0 && strcmp(e.text, "is a directory") == 0,
           "folder: %s", e.text);
    char *path = xasprintf("%s/none.jpg", folder);
    tap_ok(image_read(&image, path, 0, &e) < 0 && strstr(e.text, "No such file"),
           "missing file: %s", e.text);
    FILE *f = fopen(path, "w");
    if (f)
        fclose(f);
    tap_ok(image_read(&image, path, 0, &e) < 0 && strcmp(e.text, "empty file") == 0,
           "empty file: %s", e.text);
    tap_ok(image_read(&image, "/dev/null", 0, &e) < 0 && strcmp(e.text, "not a regular file") == 0,
           "device: %s", e.text);
    free(path);
}

/* The limit is checked against the header, before any pixel is decoded. */
static void test_bombs(void)
{
    static const struct jpeg_kind kind = {"", 1, JCS_GRAYSCALE, JCS_GRAYSCALE, false, 90};
    struct image in, out;
    struct bytes png, jpeg;
    struct error e = {""};
    make(&in, 16, 16, 1, 8);
    if (png_encode(&png.data, &png.size, &in, NULL, 0, -1, &e) != 0)
        die("%s", e.text);
    tap_ok(image_decode(&out, png.data, png.size, 255, &e) < 0 &&
               strcmp(e.text, "16x16 pixels exceed the limit of 255") == 0,
           "PNG: %s", e.text);
    tap_ok(image_decode(&out, png.data, png.size, 256, &e) == 0,
           "exactly as many pixels as the limit");
    image_release(&out);
    jpeg = make_jpeg(&in, &kind, NULL, 0, NULL, 0);
    tap_ok(image_decode(&out, jpeg.data, jpeg.size, 255, &e) < 0 &&
               strcmp(e.text, "16x16 pixels exceed the limit of 255") == 0,
           "JPEG: %s", e.text);
    free(png.data);
    free(jpeg.data);
    image_release(&in);
}

int main(void)
{
    message_init("image");
    test_jpeg();
    test_markers();
    test_damaged_jpeg();
    test_png();
    test_png_texts();
    test_webp();
    test_pnm();
    test_refusals();
    test_bombs();
    return tap_done();
}
