#include "formats/weights/pickle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "common/base/message.h"
#include "formats/weights/weights.h"
#include "tests/support/pickles.h"
#include "tests/support/tap.h"

/* Opens a copy of exact size, so that ASan detects reads past its end. */
static int open_copy(struct weights **w, uint8_t **copy, const void *bytes, size_t size,
                     struct error *e)
{
    *copy = xmalloc(size ? size : 1);
    memcpy(*copy, bytes, size);
    int status = weights_open_memory(w, *copy, size, e);
    if (status != 0) {
        free(*copy);
        *copy = NULL;
    }
    return status;
}

static bool opens(const void *bytes, size_t size, struct error *e)
{
    struct weights *w;
    uint8_t *copy;
    if (open_copy(&w, &copy, bytes, size, e) != 0)
        return false;
    weights_close(w);
    free(copy);
    return true;
}

static void protocols(void)
{
    static const float wanted[] = {1, 2, 3, 4, 5, -6.5f};
    for (size_t i = 0; i < PICKLES; i++) {
        const struct pickled *f = &pickles[i];
        struct weights *w;
        uint8_t *copy;
        struct error e = {""};
        float got[6] = {0};
        bool ok = open_copy(&w, &copy, f->bytes, f->size, &e) == 0;
        const struct weight *t = ok ? weights_find(w, "params.0.m.w") : NULL;
        if (t && weight_count(t) == 6)
            weight_to_f32(t, got);
        tap_ok(t && weights_count(w) == 1 && t->ndim == 2 && t->shape[0] == 2 && t->shape[1] == 3 &&
                   memcmp(got, wanted, sizeof wanted) == 0,
               "numpy array, protocol %d%s %s", abs(f->protocol),
               f->protocol < 0 ? " of Python 2" : "", e.text);
        if (ok)
            weights_close(w);
        free(copy);
    }
}

/* numpy.arange(12, dtype='f4').reshape(2, 2, 3).transpose(2, 0, 1) as pickled by numpy 2.3 under
 * protocol 5: with the buffer's shape and, at AXES, the order of its axes. */
static const char transposed_array[] =
    "\200\005\225\267\000\000\000\000\000\000\000}\224\214\001w\224\214\023numpy._core.numeric"
    "\224\214\013_frombuffer\224\223\224(\2260\000\000\000\000\000\000\000\000\000\000\000\000\000"
    "\200\077\000\000\000@\000\000@@\000\000\200@\000\000\240@\000\000\300@\000\000\340@\000\000"
    "\000A\000\000\020A\000\000 A\000\0000A\224\214\005numpy\224\214\005dtype\224\223\224\214\002f4"
    "\224\211\210\207\224R\224(K\003\214\001<\224NNNJ\377\377\377\377J\377\377\377\377K\000t\224bK"
    "\002K\002K\003\207\224\214\001K\224K\002K\000K\001\207\224t\224R\224s.";
#define AXES (sizeof transposed_array - 1 - 14)

static void transposed(void)
{
    static const float wanted[] = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11};
    size_t size = sizeof transposed_array - 1;
    struct weights *w;
    uint8_t *copy;
    struct error e = {""};
    float got[12] = {0};
    bool ok = open_copy(&w, &copy, transposed_array, size, &e) == 0;
    const struct weight *t = ok ? weights_find(w, "w") : NULL;
    if (t && weight_count(t) == 12)
        weight_to_f32(t, got);
    tap_ok(t && t->ndim == 3 && t->shape[0] == 3 && t->shape[1] == 2 && t->shape[2] == 2 &&
               memcmp(got, wanted, sizeof wanted) == 0,
           "numpy array with transposed axes %s", e.text);
    if (ok)
        weights_close(w);
    free(copy);
    static const char bad[][6] = {"K\2K\0K\2", "K\2K\0K\3", "K\2K\0K\377"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char damaged[sizeof transposed_array];
        memcpy(damaged, transposed_array, sizeof damaged);
        memcpy(damaged + AXES, bad[i], sizeof bad[i]);
        tap_ok(!opens(damaged, size, &e), "invalid order of three axes (%d): %s",
               (uint8_t)bad[i][5], e.text);
    }
}

static void truncation(void)
{
    struct error e;
    for (size_t i = 0; i < PICKLES; i++) {
        size_t opened = 0;
        for (size_t n = 0; n < pickles[i].size; n++)
            opened += opens(pickles[i].bytes, n, &e);
        tap_ok(opened == 0, "protocol %d: every truncation of %zu bytes is refused",
               abs(pickles[i].protocol), pickles[i].size);
    }
}

/* Replaces each byte of each fixture by several others: read or refused, never out of bounds. */
static void damage(void)
{
    static const uint8_t others[] = {0, 1, 0x7f, 0xff, '(', 't', 'R', 'b', '0', '.', 0x94, 'h'};
    size_t read = 0, refused = 0;
    for (size_t i = 0; i < PICKLES; i++) {
        uint8_t *copy = xmalloc(pickles[i].size);
        for (size_t at = 0; at < pickles[i].size; at++) {
            for (size_t k = 0; k < sizeof others; k++) {
                struct error e;
                memcpy(copy, pickles[i].bytes, pickles[i].size);
                copy[at] = others[k];
                if (opens(copy, pickles[i].size, &e))
                    read++;
                else
                    refused++;
            }
        }
        free(copy);
    }
    tap_ok(read > 0 && refused > read, "damaged bytes: %zu files read, %zu refused", read, refused);
}

struct buffer {
    uint8_t *bytes;
    size_t size, capacity;
};

static void put(struct buffer *b, const void *bytes, size_t size)
{
    if (b->size + size > b->capacity) {
        b->capacity = 2 * (b->size + size);
        b->bytes = xrealloc(b->bytes, b->capacity);
    }
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void repeat(struct buffer *b, const char *piece, size_t size, size_t times)
{
    while (times-- > 0)
        put(b, piece, size);
}
#define PUT(b, literal) put(b, literal, sizeof literal - 1)

static size_t peak_bytes(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (size_t)u.ru_maxrss * 1024;
}

/* The file must be refused for that reason, with less than 2 GB of memory (including ASan's own).
 */
static void refuse(const char *what, struct buffer *b, const char *reason)
{
    struct error e = {""};
    bool opened = opens(b->bytes, b->size, &e);
    tap_ok(!opened && strstr(e.text, reason) && peak_bytes() < (size_t)2 << 30, "%s: %s", what,
           opened ? "read" : e.text);
    free(b->bytes);
    *b = (struct buffer){0};
}

static void hostile(void)
{
    struct buffer b = {0};
    PUT(&b, "\x80\x02}X\6\0\0\0paramscposix\nsystem\nX\x19\0\0\0touch /tmp/ccld-unit-ran\n\x85Rs.");
    refuse("a call of os.system", &b, "without tensors");
    struct stat s;
    tap_ok(stat("/tmp/ccld-unit-ran", &s) != 0, "os.system was not called");

    PUT(&b, "\x80\x02");
    repeat(&b, "(", 1, 6000000);
    refuse("six million marks", &b, "too many marks");
    PUT(&b, "\x80\x02)");
    repeat(&b, "\x85", 1, 6000000);
    PUT(&b, ".");
    refuse("tuples six million deep", &b, "too many values");
    PUT(&b, "\x80\x02)");
    repeat(&b, "\x85", 1, 100000);
    PUT(&b, ".");
    refuse("tuples a hundred thousand deep", &b, "nested");
    PUT(&b, "\x80\x02");
    repeat(&b, "N", 1, 6000000);
    refuse("six million values", &b, "too many values");
    PUT(&b, "\x80\x02Nq\0");
    repeat(&b, "h\0", 2, 6000000);
    refuse("six million copies of one", &b, "stack overflow");
    PUT(&b, "\x80\x02]q\0");
    for (int i = 0; i < 40; i++) {
        PUT(&b, "(");
        repeat(&b, "h\0", 2, 1000000);
        PUT(&b, "e");
    }
    refuse("forty million items", &b, "too many values");

    PUT(&b, "\x80\x02Nr\xff\xff\xff\xff.");
    refuse("memo index 2^32 - 1", &b, "memo index");
    PUT(&b, "\x80\x02Nj\xff\xff\xff\x7f.");
    refuse("unset memo index", &b, "memo index");
    PUT(&b, "(lp99999999999999999999\n.");
    refuse("memo index of 20 digits", &b, "known format");
    PUT(&b, "\x80\x02Ng-1\n.");
    refuse("negative memo index", &b, "memo index");
    PUT(&b, "\x80\x04\x8d\0\0\0\0\0\0\0\x10x.");
    refuse("text of 2^60 bytes", &b, "truncated");
    PUT(&b, "\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffx.");
    refuse("bytes of 2^64 - 1 bytes", &b, "truncated");
    PUT(&b, "\x80\x02\x8b\xff\xff\xff\xffx.");
    refuse("number of 4 GB", &b, "truncated");

    PUT(&b, "\x80\x02]q\0h\0a.");
    refuse("a list that contains itself", &b, "nested");
    PUT(&b, "\x80\x02}q\0X\1\0\0\0ah\0s.");
    refuse("a dictionary that contains itself", &b, "nested");
    PUT(&b, "\x80\x02)q\0");
    for (char i = 0; i < 30; i++) { /* each tuple holds the previous one twice */
        const char again[] = {'h', i, 'h', i, (char)0x86, 'q', (char)(i + 1)};
        put(&b, again, sizeof again);
    }
    PUT(&b, ".");
    refuse("2^30 paths to one tuple", &b, "nested");
    PUT(&b, "\x80\x02.");
    refuse("no value", &b, "without a value");
    PUT(&b, "\x80\x02(.");
    refuse("a mark as the value", &b, "without a value");
    PUT(&b, "\x80\x02(0(1N(1.");
    refuse("marks popped", &b, "without tensors");
    PUT(&b, "\x80\x02R.");
    refuse("a call on an empty stack", &b, "underflow");
    PUT(&b, "\x80\x02N(R.");
    refuse("a call that reaches below a mark", &b, "underflow");
    PUT(&b, "\x80\x02NNb.");
    refuse("state for None", &b, "not an object");
    PUT(&b, "\x80\x02}(Nu.");
    refuse("half an item", &b, "without a value");
    PUT(&b, "\x80\x02N\x82\1.");
    refuse("an extension", &b, "opcode");
    PUT(&b, "\x80\x09N.");
    refuse("protocol 9", &b, "known format");
    PUT(&b, "\x80\x05\x97.");
    refuse("out-of-band buffers", &b, "outside");
    repeat(&b, "\x80\x02", 2, 100);
    repeat(&b, "\0", 1, 100);
    refuse("opcode 0", &b, "opcode");
}

/* Puts an array of protocol 2 with this dtype, shape and data. */
static void put_array(struct buffer *b, const char *dtype, const char *shape, const char *data)
{
    PUT(b, "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R(K\1");
    put(b, shape, strlen(shape));
    PUT(b, "cnumpy\ndtype\nU\2");
    put(b, dtype, 2);
    PUT(b, "K\0K\1\x87R(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89");
    put(b, data, strlen(data));
    PUT(b, "tb");
}

static void hostile_arrays(void)
{
    static const struct {
        const char *what, *dtype, *shape, *data, *reason;
    } cases[] = {
        {"more elements than bytes", "f4", "(M\x10\x10t", "U\4abcd", "does not match the shape"},
        {"2^62 elements of f8", "f8", "(\x8a\x08\x01\x01\x01\x01\x01\x01\x01@t", "U\4abcd",
         "does not match the shape"},
        {"a product that overflows", "u1", "(J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7ft",
         "U\4abcd", "does not match the shape"},
        {"a negative size", "u1", "(J\xff\xff\xff\xfft", "U\4abcd", "shape"},
        {"nine dimensions", "u1", "(K\1K\1K\1K\1K\1K\1K\1K\1K\4t", "U\4abcd", "shape"},
        {"a shape that is not a tuple", "u1", "N", "U\4abcd", "shape"},
        {"data that is a number", "u1", "(K\4t", "K\4", "no array data"},
        {"text that is not Latin-1", "u1", "(K\4t", "c_codecs\nencode\n(V\\u4e2dabc\nVlatin1\ntR",
         "Latin-1"},
        {"an encoding of nothing", "u1", "(K\4t", "c_codecs\nencode\n(tR", "no array data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer b = {0};
        PUT(&b, "\x80\x02}U\1x");
        put_array(&b, cases[i].dtype, cases[i].shape, cases[i].data);
        PUT(&b, "s.");
        refuse(cases[i].what, &b, cases[i].reason);
    }
}

/* Decoding one text for ten thousand arrays would need ten gigabytes. */
static void text_bomb(void)
{
    struct buffer b = {0};
    PUT(&b, "\x80\x02X\x40\x42\x0f\0");
    repeat(&b, "a", 1, 1000000);
    PUT(&b, "q\0"
            "0](");
    for (int i = 0; i < 10000; i++)
        PUT(&b, "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R(K\1"
                "J\x40\x42\x0f\0\x85"
                "cnumpy\ndtype\nU\2u1K\0K\1\x87R\x89"
                "c_codecs\nencode\nh\0X\6\0\0\0latin1\x86Rtb");
    PUT(&b, "e.");
    refuse("one text decoded for ten thousand arrays", &b, "text expands");
}

int main(void)
{
    protocols();
    transposed();
    truncation();
    damage();
    hostile_arrays();
    text_bomb();
    hostile();
    return tap_done();
}
