#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <webp/encode.h>

#include "common/base/message.h"
#include "formats/images/image_stream.h"
#include "tests/fuzz/corpus/corpus.h"

enum { WIDTH = 19, HEIGHT = 17 };

static const char *const streams[] = {
    "P2 3 2 255 # no\n1 2 3 4 5 6\nP1 4 1 0110",
    "P6\n# prompt=a\\nb\\x07\\\\\n# prompt+=c\n2 1\n255\nabcdefP5 1 1 65535\nab",
    "P7\n# seed=1\nWIDTH 1\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\nabcdefgh",
    "P4 17 2\nabcdefP3 1 1 7 1 2 9",
};

static void fill(struct image *image, int channels, int depth)
{
    struct error e;
    CHECK(image_new(image, WIDTH, HEIGHT, channels, depth, &e) == 0);
    for (size_t i = 0; i < image_bytes(image); i++)
        image->pixels[i] = (uint8_t)(i * i >> 3);
}

static void write_pngs_and_streams(void)
{
    for (int channels = 1; channels <= 4; channels++)
        for (int depth = 8; depth <= 16; depth += 8) {
            struct image image;
            struct image_remarks remarks = {0};
            struct image_text text = {(char *)"prompt", (char *)"r\xc3\xa4in \xe2\x82\xac"};
            struct error e;
            uint8_t *png;
            char name[32], *stream;
            size_t size;
            fill(&image, channels, depth);
            CHECK(png_encode(&png, &size, &image, &text, 1, 9, &e) == 0);
            snprintf(name, sizeof name, "%dx%d.png", channels, depth);
            corpus_write("image", name, png, size);
            FILE *f = open_memstream(&stream, &size);
            image_remarks_set(&remarks, text.key, text.value);
            image_remarks_set(&remarks, "seed", "12");
            CHECK(f && image_stream_write(f, &image, &remarks, &e) == 0);
            CHECK(image_stream_write(f, &image, NULL, &e) == 0 && fclose(f) == 0);
            snprintf(name, sizeof name, "%dx%d.pam", channels, depth);
            corpus_write("stream", name, stream, size);
            corpus_write("image", name, stream, size);
            free(stream);
            free(png);
            image_remarks_release(&remarks);
            image_release(&image);
        }
}

static void write_jpeg(const char *name, int channels, J_COLOR_SPACE space, bool progressive)
{
    static const uint8_t exif[] = "Exif\0\0MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0\0\0\0";
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    uint8_t *data = NULL, row[4 * WIDTH];
    unsigned long size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &data, &size);
    c.image_width = WIDTH;
    c.image_height = HEIGHT;
    c.input_components = channels;
    c.in_color_space = space;
    jpeg_set_defaults(&c);
    c.restart_interval = channels == 1 ? 2 : 0;
    if (progressive)
        jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    jpeg_write_marker(&c, JPEG_APP0 + 1, exif, sizeof exif - 1);
    for (int y = 0; y < HEIGHT; y++) {
        JSAMPROW rows[] = {row};
        for (int x = 0; x < channels * WIDTH; x++)
            row[x] = (uint8_t)(7 * x + 5 * y * y);
        jpeg_write_scanlines(&c, rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    corpus_write("image", name, data, size);
    free(data);
}

static void write_webps(void)
{
    struct image image;
    uint8_t *data;
    fill(&image, 4, 8);
    size_t size = WebPEncodeRGBA(image.pixels, WIDTH, HEIGHT, 4 * WIDTH, 70, &data);
    corpus_write("image", "lossy.webp", data, size);
    WebPFree(data);
    size = WebPEncodeLosslessRGBA(image.pixels, WIDTH, HEIGHT, 4 * WIDTH, &data);
    corpus_write("image", "lossless.webp", data, size);
    WebPFree(data);
    image_release(&image);
}

void corpus_images(void)
{
    write_pngs_and_streams();
    write_jpeg("tiny-gray.jpg", 1, JCS_GRAYSCALE, false);
    write_jpeg("tiny-color.jpg", 3, JCS_RGB, false);
    write_jpeg("tiny-progressive.jpg", 3, JCS_RGB, true);
    write_jpeg("tiny-cmyk.jpg", 4, JCS_CMYK, false);
    write_webps();
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu.ppm", i);
        corpus_write_text("stream", name, streams[i]);
        corpus_write_text("image", name, streams[i]);
    }
    /* with profiles, palettes and orientations */
    corpus_copy("image", "tests/golden/data/images/*.*", 32 << 10);
    corpus_copy("image", "tests/golden/data/formats/*.*", 32 << 10);
}
