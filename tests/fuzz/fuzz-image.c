#include <glob.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/images/prepare.h"
#include "formats/images/image_stream.h"
#include "tests/support/tap.h"

/* Decodes and prepares damaged images. Each must be read, or refused with a reason, without an
 * access out of bounds (build with sanitizers). Usage: fuzz-image [ROUNDS [SEED [FILE]...]]. It
 * mutates the golden images or the given files; with 0 ROUNDS it reads them as they are. For
 * libFuzzer, build with -DLIBFUZZER. */

enum { MAX_PIXELS = 1 << 20 };

static void prepare(struct image *image, enum prepare_color how)
{
    struct image out;
    struct error e;
    if (prepare_color(image, how, &e) == 0) {
        CHECK(image->depth == 8 && !image->alpha && (image->channels == 1 || image->channels == 3));
        if (prepare_square(&out, image, 16, &e) == 0) {
            float x[3 * 16 * 16];
            prepare_to_float(x, &out);
            for (size_t i = 0; i < sizeof x / sizeof *x; i++)
                CHECK(x[i] >= 0 && x[i] <= 1);
            image_release(&out);
        }
    }
    image_release(image);
}

static void read_stream(const uint8_t *data, size_t size)
{
    FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
    struct image_stream s;
    struct image image;
    struct image_remarks remarks;
    struct error e;
    CHECK(f);
    image_stream_init(&s, f, MAX_PIXELS);
    while (image_stream_read(&s, &image, &remarks, &e) == 1) {
        image_release(&image);
        image_remarks_release(&remarks);
    }
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image image;
    struct error e = {""};
    if (size == 0)
        return 0;
    for (int how = 0; how < 2; how++)
        if (image_decode(&image, data, size, MAX_PIXELS, &e) == 0)
            prepare(&image, how ? PREPARE_PIL : PREPARE_DISPLAY);
        else
            CHECK(e.text[0] && !image.pixels && !image.icc);
    if (data[0] == 'P' || data[0] == '\n')
        read_stream(data, size);
    return 0;
}

#ifndef LIBFUZZER
static const char *const streams[] = {
    "P2 3 2 255 # no\n1 2 3 4 5 6\nP1 4 1 0110",
    "P6\n# prompt=a\\nb\\x07\\\\\n# prompt+=c\n2 1\n255\nabcdefP5 1 1 65535\nab",
    "P7\n# seed=1\nWIDTH 1\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\nabcdefgh",
    "P4 17 2\nabcdefP3 1 1 7 1 2 9",
};

static uint32_t draw(uint64_t seed, uint64_t round, uint32_t i)
{
    uint32_t out[4];
    philox4x32_10(out, (uint32_t[4]){i, (uint32_t)round, (uint32_t)(round >> 32), 11},
                  (uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)});
    return out[0];
}

/* Headers come first, so half of the damage goes there. */
static size_t mutate(uint8_t *data, size_t size, uint64_t seed, uint64_t round)
{
    static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, '0', '9', ' ', '\n', '#'};
    uint32_t changes = 1 + draw(seed, round, 1) % 12;
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t r = draw(seed, round, 10 + 3 * i), s = draw(seed, round, 11 + 3 * i);
        size_t at = (r & 1 && size > 200 ? r >> 1 & 127 : r >> 1) % size;
        size_t length = 1 + (s >> 8) % 8;
        switch (s % 4) {
        case 0:
            data[at] ^= (uint8_t)(1u << (s >> 4 & 7));
            break;
        case 1:
            data[at] = telling[(s >> 4) % sizeof telling];
            break;
        case 2:
            data[at] = (uint8_t)(s >> 8);
            break;
        default: /* a few bytes from elsewhere */
            if (at + length <= size)
                memmove(data + at, data + draw(seed, round, 12 + 3 * i) % (size - length + 1),
                        length);
        }
    }
    return draw(seed, round, 2) % 4 ? size : 1 + draw(seed, round, 3) % size;
}

/* Corrects a PNG's checksums, so that the decoder gets past them. */
static void mend_png(uint8_t *data, size_t size)
{
    if (size < 8 || memcmp(data, "\x89PNG", 4) != 0)
        return;
    for (size_t at = 8; at + 12 <= size;) {
        uint8_t *p = data + at;
        size_t length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (length > size - at - 12)
            return;
        uLong crc = crc32(0, p + 4, (uInt)length + 4);
        for (int i = 0; i < 4; i++)
            p[8 + length + (size_t)i] = (uint8_t)(crc >> 8 * (3 - i));
        at += length + 12;
    }
}

static void run(const uint8_t *data, size_t size, uint64_t seed, uint64_t round)
{
    uint8_t *copy = xmalloc(size);
    memcpy(copy, data, size);
    size_t left = mutate(copy, size, seed, round);
    if (draw(seed, round, 4) % 4)
        mend_png(copy, left);
    uint8_t *exact = xmalloc(left); /* so that overreads are detected */
    memcpy(exact, copy, left);
    LLVMFuzzerTestOneInput(exact, left);
    free(exact);
    free(copy);
}

struct input {
    uint8_t *data;
    size_t size;
};

static void read_inputs(struct input *inputs, char **paths, int n)
{
    struct error e;
    for (int i = 0; i < n; i++)
        if (file_read(&inputs[i].data, &inputs[i].size, paths[i], SIZE_MAX / 2, &e) != 0)
            die("cannot read '%s': %s", paths[i], e.text);
}

int main(int argc, char **argv)
{
    enum { STREAMS = sizeof streams / sizeof *streams };
    message_init(argv[0]);
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 40;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    glob_t found = {0};
    int n = argc > 3 ? argc - 3 : 0;
    char **paths = argv + 3;
    if (n == 0 && glob("tests/golden/data/images/*.*", 0, NULL, &found) == 0) {
        paths = found.gl_pathv;
        n = (int)found.gl_pathc;
    }
    struct input *inputs = xcalloc((size_t)n + STREAMS, sizeof *inputs);
    read_inputs(inputs, paths, n);
    int total = n;
    for (size_t i = 0; i < STREAMS; i++) {
        inputs[total].data = (uint8_t *)xstrdup(streams[i]);
        inputs[total++].size = strlen(streams[i]);
    }
    for (int i = 0; i < total; i++)
        LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].size);
    for (uint64_t round = 0; round < rounds; round++)
        for (int i = 0; i < total; i++)
            if (inputs[i].size > 0)
                run(inputs[i].data, inputs[i].size, seed, round * (uint64_t)total + (uint64_t)i);
    for (int i = 0; i < total; i++)
        free(inputs[i].data);
    free(inputs);
    globfree(&found);
    tap_ok(n > 0, "%d images, intact and damaged %" PRIu64 " times each", total, rounds);
    return tap_done();
}
#endif
