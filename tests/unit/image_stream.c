#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/images/image_stream.h"
#include "tests/support/tap.h"

struct stream {
    char *data;
    size_t size;
    FILE *file;
};

static void stream_open(struct stream *s)
{
    s->file = open_memstream(&s->data, &s->size);
    if (!s->file)
        die("cannot open a memory stream");
}

static void make(struct image *image, int width, int height, int channels, int depth)
{
    struct error e;
    if (image_new(image, width, height, channels, depth, &e) != 0)
        die("%s", e.text);
    for (size_t i = 0; i < image_bytes(image); i++)
        image->pixels[i] = (uint8_t)(i * 37 + (size_t)channels);
}

static bool same(const struct image *a, const struct image *b)
{
    return a->width == b->width && a->height == b->height && a->channels == b->channels &&
           a->depth == b->depth && a->alpha == b->alpha && a->color == b->color &&
           memcmp(a->pixels, b->pixels, image_bytes(a)) == 0;
}

/* Remarks that could break a line-based header or a comment parser. */
static const char *const values[] = {
    "a rainy city street",
    "two\nlines\r\nand \\n that is none",
    "\x01\x7f\t bell \x07",
    "\xe7\x8c\xab caf\xc3\xa9 # = += \\x41 \\",
    "",
    " spaces at both ends ",
};
enum { VALUES = sizeof values / sizeof *values };

static void fill_remarks(struct image_remarks *r, const char *long_value)
{
    *r = (struct image_remarks){0};
    for (int i = 0; i < VALUES; i++) {
        char key[16];
        snprintf(key, sizeof key, "key_%d", i);
        image_remarks_set(r, key, "to be replaced");
        image_remarks_set(r, key, values[i]);
    }
    image_remarks_set(r, "prompt", long_value);
}

static bool same_remarks(const struct image_remarks *a, const struct image_remarks *b)
{
    bool equal = a->count == b->count;
    for (int i = 0; equal && i < a->count; i++)
        equal = !strcmp(a->items[i].key, b->items[i].key) &&
                !strcmp(a->items[i].value, b->items[i].value);
    return equal;
}

static void test_round_trip(void)
{
    char long_value[3000];
    for (size_t i = 0; i < sizeof long_value - 1; i++)
        long_value[i] = (char)(i % 97 == 0 ? '\n' : 'a' + i % 26);
    long_value[sizeof long_value - 1] = 0;
    struct stream s;
    struct image in[8], out;
    struct image_remarks remarks, got;
    struct error e = {""};
    int count = 0, written = 0;
    fill_remarks(&remarks, long_value);
    stream_open(&s);
    for (int depth = 8; depth <= 16; depth += 8)
        for (int channels = 1; channels <= 4; channels++) {
            make(&in[count], 5 + count, 3, channels, depth);
            written += image_stream_write(s.file, &in[count], count % 2 ? NULL : &remarks, &e) == 0;
            count++;
        }
    fclose(s.file);
    tap_ok(written == count, "%d images are written: %s", count, e.text);
    FILE *f = fmemopen(s.data, s.size, "r");
    struct image_stream stream;
    image_stream_init(&stream, f, 0);
    for (int i = 0; i < count; i++) {
        int status = image_stream_read(&stream, &out, &got, &e);
        tap_ok(status == 1 && same(&in[i], &out), "image %d, %d channels of %d bits: %s", i + 1,
               in[i].channels, in[i].depth, e.text);
        tap_ok(status == 1 && (i % 2 ? got.count == 0 : same_remarks(&remarks, &got)),
               "its %d remarks are read", got.count);
        image_release(&out);
        image_remarks_release(&got);
        image_release(&in[i]);
    }
    tap_ok(image_stream_read(&stream, &out, &got, &e) == 0 && stream.count == count,
           "then the stream ends");
    fclose(f);
    image_remarks_release(&remarks);
    free(s.data);
}

/* netpbm refuses PAM header lines of more than 255 bytes, including comments. */
static void test_pam_lines(void)
{
    char value[1000];
    memset(value, '\n', sizeof value - 1);
    value[sizeof value - 1] = 0;
    struct stream s;
    struct image image;
    struct image_remarks remarks = {0};
    struct error e;
    make(&image, 1, 1, 4, 8);
    image_remarks_set(&remarks, "prompt", value);
    stream_open(&s);
    int status = image_stream_write(s.file, &image, &remarks, &e);
    fclose(s.file);
    size_t longest = 0;
    const char *end = status == 0 ? strstr(s.data, "ENDHDR\n") : NULL;
    for (const char *p = s.data; end && p < end;) {
        size_t line = strcspn(p, "\n") + 1;
        longest = line > longest ? line : longest;
        p += line;
    }
    tap_ok(end && longest > 200 && longest < 255, "the longest PAM header line has %zu bytes",
           longest);
    image_remarks_release(&remarks);
    image_release(&image);
    free(s.data);
}

static void expect_error(const char *data, size_t size, int images, const char *reason)
{
    FILE *f = fmemopen((void *)(uintptr_t)data, size, "r");
    struct image_stream stream;
    struct image image;
    struct error e = {""};
    int status, read = 0;
    image_stream_init(&stream, f, 100);
    while ((status = image_stream_read(&stream, &image, NULL, &e)) == 1) {
        image_release(&image);
        read++;
    }
    tap_ok(read == images && status == (reason ? -1 : 0) && (!reason || !strcmp(e.text, reason)),
           "%d images, then %s", read, status < 0 ? e.text : "the end");
    fclose(f);
}

#define EXPECT_ERROR(text, images, reason) expect_error(text, sizeof(text) - 1, images, reason)

static void test_errors(void)
{
    EXPECT_ERROR(" ", 0, NULL);
    EXPECT_ERROR("P5 1 1 255\na\n\nP6 1 1 255\nabc \n", 2, NULL);
    EXPECT_ERROR("P5 1 1 255\naP5 1 1 255\nbP6 1 1 255\nab", 2,
                 "image 3: ended in the middle of the pixels");
    EXPECT_ERROR("P5 1 1 255\naP5 1 1", 1, "image 2: ended in the middle of the header");
    EXPECT_ERROR("P7\nWIDTH 1\nHEI", 0, "image 1: ended in the middle of the header");
    EXPECT_ERROR("P5 1 1 255\na\x89PNG", 1, "image 2: not a binary PGM, PPM or PAM image");
    EXPECT_ERROR("P5 11 10 255\n", 0, "image 1: 11x10 pixels exceed the limit of 100");
    EXPECT_ERROR("P7\nWIDTH 1\nHEIGHT 1\nMAXVAL 1\nENDHDR\na", 0,
                 "image 1: bad PAM: WIDTH, HEIGHT, DEPTH or MAXVAL is missing");
    EXPECT_ERROR("P7\nWIDTH 1\nHEIGHT 1\nDEPTH 9\nMAXVAL 1\nENDHDR\na", 0,
                 "image 1: unsupported PAM: 9 channels");
    struct image image;
    struct error e = {""};
    FILE *full = fopen("/dev/full", "w");
    make(&image, 4, 4, 3, 8);
    tap_ok(full && image_stream_write(full, &image, NULL, &e) < 0 && strstr(e.text, "space"),
           "a full disk is reported: %s", e.text);
    image_release(&image);
    if (full)
        fclose(full);
}

static void test_foreign_comments(void)
{
    const char text[] =
        "P6\n# made by hand\n#seed=7\n#  Upper=no\n# prompt+=tail\n1 1 # a=b\n255\nabc";
    FILE *f = fmemopen((void *)(uintptr_t)text, sizeof text - 1, "r");
    struct image_stream stream;
    struct image image;
    struct image_remarks r;
    struct error e;
    image_stream_init(&stream, f, 0);
    int status = image_stream_read(&stream, &image, &r, &e);
    const char *seed = image_remarks_find(&r, "seed"), *prompt = image_remarks_find(&r, "prompt");
    tap_ok(status == 1 && r.count == 3 && seed && !strcmp(seed, "7") && prompt &&
               !strcmp(prompt, "tail") && image_remarks_find(&r, "a") &&
               !image_remarks_find(&r, "Upper"),
           "other programs' comments are skipped");
    image_remarks_release(&r);
    image_release(&image);
    fclose(f);
}

int main(void)
{
    message_init("image_stream");
    test_round_trip();
    test_pam_lines();
    test_errors();
    test_foreign_comments();
    return tap_done();
}
