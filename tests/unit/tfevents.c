/* TensorBoard's event files, byte by byte: checksums, frames, messages. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/images/image.h"
#include "formats/tfevents.h"
#include "tests/support/tap.h"

static void test_crc(void)
{
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    for (int i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    /* RFC 3720, appendix B.4 */
    tap_ok(crc32c(0, zeros, 32) == 0x8a9136aa && crc32c(0, ones, 32) == 0x62a8ab43 &&
               crc32c(0, up, 32) == 0x46dd794e && crc32c(0, down, 32) == 0x113fdb5c,
           "CRC-32C of the RFC's vectors");
    tap_ok(crc32c(0, "123456789", 9) == 0xe3069283 && crc32c(0, "", 0) == 0,
           "CRC-32C of 123456789");
    tap_ok(crc32c(crc32c(0, "1234", 4), "56789", 5) == 0xe3069283, "CRC-32C in two pieces");
    /* Every event file of TensorFlow begins with \x18 0... \xa3 \x7f K ". */
    const uint8_t length[8] = {24};
    tap_ok(crc32c_masked(length, 8) == 0x224b7fa3, "masked CRC");
}

static char folder[4200];

static void new_folder(const char *name)
{
    snprintf(folder, sizeof folder, "%s/%s", test_folder(), name);
    CHECK(mkdir(folder, 0777) == 0);
}

static struct tfevents *open_events(int64_t first_step)
{
    struct tfevents *t = NULL;
    struct error e;
    if (tfevents_open(&t, folder, first_step, &e) != 0)
        tap_diag("%s", e.text);
    CHECK(t);
    return t;
}

/* The rest of a message. */
struct span {
    const uint8_t *data;
    size_t size;
};

static uint64_t little_endian(const uint8_t *p, int size)
{
    uint64_t v = 0;
    for (int i = 0; i < size; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* Takes the next frame's message off the file; false at its end. Aborts on a wrong checksum. */
static bool next_frame(struct span *file, struct span *event)
{
    if (file->size == 0)
        return false;
    CHECK(file->size >= 16);
    uint64_t length = little_endian(file->data, 8);
    CHECK(length <= file->size - 16);
    CHECK(little_endian(file->data + 8, 4) == crc32c_masked(file->data, 8));
    *event = (struct span){file->data + 12, length};
    CHECK(little_endian(event->data + length, 4) == crc32c_masked(event->data, length));
    file->data += 16 + length;
    file->size -= 16 + length;
    return true;
}

static uint64_t take_varint(struct span *m)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        CHECK(m->size > 0 && shift < 64);
        uint8_t byte = *m->data++;
        m->size--;
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return v;
    }
}

/* Finds occurrence `which` of a field by its number. Sets *bytes to its data or, for a number,
 * *number to its bits. */
static bool field(struct span m, int wanted, int which, struct span *bytes, uint64_t *number)
{
    while (m.size > 0) {
        uint64_t key = take_varint(&m), v = 0;
        struct span inside = {0};
        int type = (int)(key & 7);
        if (type == 0) {
            v = take_varint(&m);
        } else {
            CHECK(type == 1 || type == 2 || type == 5);
            size_t size = type == 1 ? 8 : type == 5 ? 4 : take_varint(&m);
            CHECK(size <= m.size);
            inside = (struct span){m.data, size};
            v = type == 2 ? 0 : little_endian(m.data, (int)size);
            m.data += size;
            m.size -= size;
        }
        if (key >> 3 == (uint64_t)wanted && which-- == 0) {
            *bytes = inside;
            *number = v;
            return true;
        }
    }
    return false;
}

static struct span message_in(struct span m, int wanted, int which)
{
    struct span inside;
    uint64_t unused;
    CHECK(field(m, wanted, which, &inside, &unused));
    return inside;
}

static uint64_t number_in(struct span m, int wanted)
{
    struct span unused;
    uint64_t v;
    CHECK(field(m, wanted, 0, &unused, &v));
    return v;
}

static double double_in(struct span m, int wanted)
{
    uint64_t bits = number_in(m, wanted);
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

static bool text_is(struct span m, const char *text)
{
    return m.size == strlen(text) && !memcmp(m.data, text, m.size);
}

static void test_preamble_and_scalars(void)
{
    new_folder("scalars");
    struct tfevents *t = open_events(-1);
    struct error e = {""};
    const struct tfevents_scalar scalars[] = {{"a", 1.5f}, {"loss/test", -0.25f}};
    CHECK(!tfevents_scalars(t, 1.0, 300, scalars, 2, &e));
    uint8_t *data;
    size_t size;
    CHECK(!file_read(&data, &size, tfevents_path(t), 100000, &e));
    static const uint8_t begin[12] = {24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 'K', '"'};
    tap_ok(size > 12 && !memcmp(data, begin, 12) && strstr(tfevents_path(t), "tfevents"),
           "begins like TensorFlow's files");
    struct span file = {data, size}, event = {0};
    CHECK(next_frame(&file, &event));
    tap_ok(text_is(message_in(event, 3, 0), "brain.Event:2") && double_in(event, 1) > 1.6e9,
           "version and time");
    CHECK(next_frame(&file, &event));
    static const uint8_t expected[] = {
        0x09, 0,   0,    0,    0,   0,    0,    0xf0, 0x3f,       /* wall_time 1.0 */
        0x10, 172, 2,                                             /* step 300 */
        0x2a, 28,                                                 /* summary */
        0x0a, 8,   0x0a, 1,    'a', 0x15, 0,    0,    0xc0, 0x3f, /* value a = 1.5 */
        0x0a, 16,  0x0a, 9,    'l', 'o',  's',  's',  '/',  't',
        'e',  's', 't',  0x15, 0,   0,    0x80, 0xbe, /* -0.25 */
    };
    tap_ok(event.size == sizeof expected && !memcmp(event.data, expected, sizeof expected),
           "two scalars");
    tap_ok(!next_frame(&file, &event), "nothing else follows");
    free(data);
    tfevents_close(t);
}

static void test_session(void)
{
    new_folder("session");
    struct tfevents *a = open_events(0), *b = open_events(1234567), *c = open_events(-1);
    tap_ok(strcmp(tfevents_path(a), tfevents_path(b)) < 0 &&
               strcmp(tfevents_path(b), tfevents_path(c)) < 0,
           "file names sort in order of creation");
    uint8_t *data;
    size_t size;
    struct error e;
    struct span file, event;
    CHECK(!file_read(&data, &size, tfevents_path(b), 100000, &e));
    file = (struct span){data, size};
    CHECK(next_frame(&file, &event) && next_frame(&file, &event));
    tap_ok(number_in(event, 2) == 1234567 && number_in(message_in(event, 7, 0), 1) == 1,
           "a session that starts at a given step");
    free(data);
    tfevents_close(a);
    tfevents_close(b);
    tfevents_close(c);
}

static void test_image_and_text(void)
{
    new_folder("image");
    struct tfevents *t = open_events(-1);
    struct error e = {""};
    struct image image;
    uint8_t *png, *data;
    size_t png_size, size;
    CHECK(!image_new(&image, 300, 7, 3, 8, &e));
    CHECK(!png_encode(&png, &png_size, &image, NULL, 0, -1, &e));
    image_release(&image);
    tap_ok(tfevents_image(t, 2, 5, "demo", png, png_size, &e) == 0 &&
               !tfevents_text(t, 3, 6, "prompts", "*a* b\n\xc3\xa9", &e),
           "an image and a text are written");
    tap_ok(tfevents_image(t, 2, 5, "demo", png, 20, &e) != 0 &&
               tfevents_image(t, 2, 5, "demo", "\xff\xd8 JPEG", 7, &e),
           "not a PNG: %s", e.text);
    CHECK(!file_read(&data, &size, tfevents_path(t), 1000000, &e));
    struct span file = {data, size}, event = {0};
    CHECK(next_frame(&file, &event) && next_frame(&file, &event));
    struct span value = message_in(message_in(event, 5, 0), 1, 0), inside = message_in(value, 4, 0),
                bytes = message_in(inside, 4, 0);
    tap_ok(number_in(event, 2) == 5 && text_is(message_in(value, 1, 0), "demo") &&
               number_in(inside, 1) == 7 && number_in(inside, 2) == 300 &&
               number_in(inside, 3) == 3 && bytes.size == png_size &&
               !memcmp(bytes.data, png, png_size),
           "the image has the right size and bytes");
    CHECK(next_frame(&file, &event));
    value = message_in(message_in(event, 5, 0), 1, 0);
    struct span tensor = message_in(value, 8, 0), metadata = message_in(value, 9, 0);
    tap_ok(number_in(event, 2) == 6 && double_in(event, 1) == 3 && number_in(tensor, 1) == 7 &&
               message_in(tensor, 2, 0).size == 0 &&
               text_is(message_in(tensor, 8, 0), "*a* b\n\xc3\xa9") &&
               text_is(message_in(message_in(metadata, 1, 0), 1, 0), "text"),
           "the text is a string tensor for the text plugin");
    tap_ok(!next_frame(&file, &event), "failed calls leave nothing");
    free(data);
    free(png);
    tfevents_close(t);
}

/* A partially written event is removed, so that later events are readable. */
static void test_full_disk(void)
{
    new_folder("full");
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit limit = {1000, RLIM_INFINITY};
        setrlimit(RLIMIT_FSIZE, &limit);
        struct tfevents *t;
        struct error e = {""};
        char *text = xmalloc(2001);
        memset(text, 'x', 2000);
        text[2000] = 0;
        if (tfevents_open(&t, folder, 0, &e) != 0)
            _exit(2);
        int big = tfevents_text(t, 1, 1, "big", text, &e),
            big_is_reported = strstr(e.text, "large") != 0;
        int small = tfevents_text(t, 1, 2, "small", "y", &e);
        struct stat st;
        struct span file = {0}, event;
        size_t frames = 0;
        if (stat(tfevents_path(t), &st) ||
            file_read((uint8_t **)&file.data, &file.size, tfevents_path(t), 100000, &e) != 0)
            _exit(3);
        while (next_frame(&file, &event))
            frames++;
        _exit(big == -1 && big_is_reported && small == 0 && frames == 3 ? 0 : 1);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    tap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0,
           "an event that does not fit leaves no partial data (status %d)", status);
}

int main(void)
{
    test_crc();
    test_preamble_and_scalars();
    test_session();
    test_image_and_text();
    test_full_disk();
    return tap_done();
}
