#include "formats/weights/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/weights/torch_write.h"
#include "tests/support/tap.h"

/* Archives are built byte by byte, so that any field can be wrong. */
struct archive {
    uint8_t *bytes;
    size_t size, capacity;
    uint8_t *central;
    size_t central_size, central_capacity;
    int count;
};

static void put(uint8_t **bytes, size_t *size, size_t *capacity, const void *data, size_t n)
{
    if (*size + n > *capacity) {
        *capacity = 2 * (*size + n);
        *bytes = xrealloc(*bytes, *capacity);
    }
    if (n > 0)
        memcpy(*bytes + *size, data, n);
    *size += n;
}

static void put_body(struct archive *a, const void *data, size_t n)
{
    put(&a->bytes, &a->size, &a->capacity, data, n);
}

static void put_central(struct archive *a, const void *data, size_t n)
{
    put(&a->central, &a->central_size, &a->central_capacity, data, n);
}

static void number(struct archive *a, bool central, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++, value >>= 8) {
        uint8_t b = (uint8_t)value;
        if (central)
            put_central(a, &b, 1);
        else
            put_body(a, &b, 1);
    }
}

struct member {
    const char *name;
    const void *data; /* as stored in the file */
    size_t stored, size;
    uint32_t crc;
    int method, flags;
    bool zip64; /* sizes and offset in the extra field */
};

static void add(struct archive *a, const struct member *m)
{
    uint64_t offset = a->size;
    for (int central = 0; central < 2; central++) {
        uint64_t limit = m->zip64 && central ? UINT32_MAX : 0;
        number(a, central, central ? 0x02014b50 : 0x04034b50, 4);
        number(a, central, 20, central ? 4 : 2);
        number(a, central, (uint64_t)m->flags, 2);
        number(a, central, (uint64_t)m->method, 2);
        number(a, central, 0, 4);
        number(a, central, m->crc, 4);
        number(a, central, limit ? limit : m->stored, 4);
        number(a, central, limit ? limit : m->size, 4);
        number(a, central, strlen(m->name), 2);
        number(a, central, limit ? 28 : 0, 2);
        if (central) {
            number(a, true, 0, 2 + 2 + 2 + 4);
            number(a, true, limit ? limit : offset, 4);
            put_central(a, m->name, strlen(m->name));
            if (limit) {
                number(a, true, 1, 2);
                number(a, true, 24, 2);
                number(a, true, m->size, 8);
                number(a, true, m->stored, 8);
                number(a, true, offset, 8);
            }
        } else {
            put_body(a, m->name, strlen(m->name));
            put_body(a, m->data, m->stored);
        }
    }
    a->count++;
}

static void finish(struct archive *a, bool zip64, const char *comment)
{
    uint64_t offset = a->size, directory = a->central_size;
    put_body(a, a->central, a->central_size);
    if (zip64) {
        uint64_t at = a->size;
        number(a, false, 0x06064b50, 4);
        number(a, false, 44, 8);
        number(a, false, 45, 4);
        number(a, false, 0, 8);
        number(a, false, (uint64_t)a->count, 8);
        number(a, false, (uint64_t)a->count, 8);
        number(a, false, directory, 8);
        number(a, false, offset, 8);
        number(a, false, 0x07064b50, 4);
        number(a, false, 0, 4);
        number(a, false, at, 8);
        number(a, false, 1, 4);
    }
    number(a, false, 0x06054b50, 4);
    number(a, false, 0, 4);
    number(a, false, zip64 ? 0xffff : (uint64_t)a->count, 2);
    number(a, false, zip64 ? 0xffff : (uint64_t)a->count, 2);
    number(a, false, zip64 ? UINT32_MAX : directory, 4);
    number(a, false, zip64 ? UINT32_MAX : offset, 4);
    number(a, false, strlen(comment), 2);
    put_body(a, comment, strlen(comment));
    free(a->central);
    a->central = NULL;
}

/* Raw deflate; sets *size to the size of the result. */
static uint8_t *deflated(const void *data, size_t *size)
{
    z_stream s = {0};
    size_t room = *size + *size / 100 + 100;
    uint8_t *out = xmalloc(room);
    CHECK(deflateInit2(&s, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY) == Z_OK);
    s.next_in = (Bytef *)data;
    s.avail_in = (uInt)*size;
    s.next_out = out;
    s.avail_out = (uInt)room;
    CHECK(deflate(&s, Z_FINISH) == Z_STREAM_END);
    *size = s.total_out;
    deflateEnd(&s);
    return out;
}

static uint32_t crc_of(const void *data, size_t size)
{
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), data, size);
}

static struct member stored(const char *name, const void *data, size_t size)
{
    return (struct member){
        .name = name, .data = data, .stored = size, .size = size, .crc = crc_of(data, size)};
}

/* Opens every member and reads its data, so that ASan checks the accesses. Returns 0 if all opened.
 */
static int read_all(const uint8_t *bytes, size_t size, struct error *e)
{
    uint8_t *copy = xmalloc(size ? size : 1);
    memcpy(copy, bytes, size);
    struct zip z;
    int status = zip_read(&z, copy, size, e);
    for (size_t i = 0; i < z.count && status == 0; i++) {
        status = zip_open_member(&z, &z.members[i], e);
        if (status == 0)
            crc_of(z.members[i].data, (size_t)z.members[i].size);
    }
    zip_release(&z);
    free(copy);
    return status;
}

static void good(void)
{
    static const char text[] = "some text, some text, some text, some text";
    size_t packed = sizeof text, packed_big = 3 << 20;
    uint8_t *small = deflated(text, &packed), *zeros = xcalloc(1, 3 << 20);
    uint8_t *big = deflated(zeros, &packed_big);
    for (int zip64 = 0; zip64 < 2; zip64++) {
        struct archive a = {0};
        struct member m = stored("one", text, sizeof text);
        m.zip64 = zip64;
        add(&a, &m);
        m = (struct member){"two", small, packed, sizeof text, m.crc, 8, 0, zip64};
        add(&a, &m);
        m = (struct member){"big", big, packed_big, 3 << 20, crc_of(zeros, 3 << 20), 8, 0, zip64};
        add(&a, &m);
        m = stored("empty", "", 0);
        add(&a, &m);
        finish(&a, zip64, zip64 ? "" : "a comment PK\5\6 in the end");
        struct zip z;
        struct error e = {""};
        bool ok = zip_recognize(a.bytes, a.size) && zip_read(&z, a.bytes, a.size, &e) == 0;
        struct zip_member *one = ok ? zip_find(&z, "one") : NULL,
                          *two = ok ? zip_find(&z, "two") : NULL,
                          *large = ok ? zip_find(&z, "big") : NULL;
        ok = ok && z.count == 4 && one && two && large && !zip_find(&z, "three") &&
             zip_open_member(&z, one, &e) == 0 && zip_open_member(&z, two, &e) == 0 &&
             zip_open_member(&z, large, &e) == 0 &&
             zip_open_member(&z, zip_find(&z, "empty"), &e) == 0;
        tap_ok(ok && memcmp(one->data, text, sizeof text) == 0 &&
                   memcmp(two->data, text, sizeof text) == 0 &&
                   memcmp(large->data, zeros, 3 << 20) == 0,
               "stored and deflated members%s %s", zip64 ? ", zip64" : "", e.text);
        tap_ok(ok && one->data > a.bytes && one->data < a.bytes + a.size,
               "stored members are used in place");
        zip_release(&z);
        free(a.bytes);
    }
    free(small);
    free(big);
    free(zeros);
}

static void bad_members(void)
{
    static const char text[] = "some text, some text, some text, some text";
    size_t packed = sizeof text;
    uint8_t *small = deflated(text, &packed);
    uint32_t crc = crc_of(text, sizeof text);
    const struct {
        const char *what;
        struct member m;
        const char *reason;
    } cases[] = {
        {"wrong CRC", {"x", small, packed, sizeof text, crc ^ 1, 8, 0, false}, "CRC"},
        {"size too small", {"x", small, packed, sizeof text - 1, crc, 8, 0, false}, "more"},
        {"size too big", {"x", small, packed, sizeof text + 1, crc, 8, 0, false}, "less"},
        {"impossible size", {"x", small, packed, 4000000000u, crc, 8, 0, false}, "impossible"},
        {"deflated data cut off",
         {"x", small, packed - 3, sizeof text, crc, 8, 0, false},
         "damaged"},
        {"not deflated at all", {"x", "\xff\xff\xff", 3, 10, crc, 8, 0, false}, "damaged"},
        {"encrypted", {"x", text, sizeof text, sizeof text, crc, 0, 1, false}, "encrypted"},
        {"another method", {"x", text, sizeof text, sizeof text, crc, 14, 0, false}, "method 14"},
        {"stored, but two sizes", {"x", text, 10, 20, crc, 0, 0, false}, "damaged"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct archive a = {0};
        struct error e = {""};
        add(&a, &cases[i].m);
        finish(&a, false, "");
        int status = read_all(a.bytes, a.size, &e);
        tap_ok(status == -1 && strstr(e.text, cases[i].reason), "%s: %s", cases[i].what,
               status != 0 ? e.text : "read");
        free(a.bytes);
    }
    free(small);
}

/* An archive with every kind of member, truncated and damaged at every byte. */
static void damage(bool zip64)
{
    static const char text[] = "some text, some text";
    size_t packed = sizeof text, opened = 0, read = 0;
    uint8_t *small = deflated(text, &packed);
    struct archive a = {0};
    struct error e;
    struct member m = stored("one", text, sizeof text);
    m.zip64 = zip64;
    add(&a, &m);
    m = (struct member){"two", small, packed, sizeof text, m.crc, 8, 0, zip64};
    add(&a, &m);
    finish(&a, zip64, "");
    for (size_t n = 0; n < a.size; n++)
        opened += read_all(a.bytes, n, &e) == 0;
    tap_ok(opened == 0, "every truncation of %zu bytes is refused", a.size);
    for (size_t at = 0; at < a.size; at++) {
        uint8_t kept = a.bytes[at];
        for (int k = 0; k < 8; k++) {
            a.bytes[at] = (uint8_t)(k < 4    ? kept ^ 1 << 2 * k
                                    : k == 4 ? 0xff
                                    : k == 5 ? 0
                                             : kept + k);
            read += read_all(a.bytes, a.size, &e) == 0;
        }
        a.bytes[at] = kept;
    }
    tap_ok(read_all(a.bytes, a.size, &e) == 0 && read > 0 && read < 8 * a.size,
           "of %zu damaged archives, %zu could be read", 8 * a.size, read);
    free(a.bytes);
    free(small);
}

/* A torch checkpoint written here, on its own and inside another archive. */
static void checkpoints(void)
{
    char *path = path_join(test_folder(), "a.ckpt");
    struct torch_writer *t;
    struct weights *w;
    struct error e = {""};
    const float values[] = {1, 2, 3, 4, 5, 6};
    bool ok = torch_create(&t, path, true, &e) == 0;
    CHECK(ok);
    torch_declare(t, "none", DTYPE_F16, 1, (int64_t[]){0});
    torch_declare(t, "a.weight", DTYPE_F32, 2, (int64_t[]){2, 3});
    torch_declare(t, "n", DTYPE_I64, 0, NULL);
    torch_declare(t, "nothing", DTYPE_F32, 2, (int64_t[]){3, 0});
    ok = torch_append(t, values, 7, &e) == 0 &&
         torch_append(t, (const uint8_t *)values + 7, sizeof values - 7, &e) == 0 &&
         torch_append(t, "\x2a\0\0\0\0\0\0\0", 8, &e) == 0 && !file_exists(path);
    ok = torch_commit(t, &e) == 0 && ok;
    tap_ok(ok, "a checkpoint is written %s", e.text);
    ok = weights_open(&w, path, &e) == 0;
    if (!tap_ok(ok, "and opens %s", e.text))
        return;
    const struct weight *a = weights_find(w, "a.weight"), *n = weights_find(w, "n");
    tap_ok(a && n && weights_count(w) == 4 && a->contiguous && a->shape[1] == 3 &&
               memcmp(a->data, values, sizeof values) == 0 && *(const int64_t *)n->data == 42,
           "with the same tensors");
    weights_close(w);

    uint8_t *bytes;
    size_t size, opened = 0;
    CHECK(file_read(&bytes, &size, path, 1 << 20, &e) == 0);
    for (size_t k = 0; k < size; k++) {
        uint8_t *copy = xmalloc(k + 1);
        memcpy(copy, bytes, k);
        if (weights_open_memory(&w, copy, k, &e) == 0) {
            weights_close(w);
            opened++;
        }
        free(copy);
    }
    tap_ok(opened == 0, "every truncation of %zu bytes is refused", size);
    for (int method = 0; method <= 8; method += 8) {
        struct archive outer = {0};
        size_t packed = size;
        uint8_t *small = deflated(bytes, &packed);
        struct member m = stored("read me.txt", "hello", 5);
        add(&outer, &m);
        m = (struct member){"x/model.ckpt",
                            method ? small : bytes,
                            method ? packed : size,
                            size,
                            crc_of(bytes, size),
                            method,
                            0,
                            false};
        add(&outer, &m);
        finish(&outer, false, "");
        ok = weights_open_memory(&w, outer.bytes, outer.size, &e) == 0;
        tap_ok(ok && weights_find(w, "a.weight") &&
                   strcmp(weights_format(w), "torch zip in zip") == 0,
               "inside another archive, %s %s", method ? "deflated" : "stored", ok ? "" : e.text);
        if (ok)
            weights_close(w);
        free(outer.bytes);
        free(small);
    }
    free(bytes);
    free(path);
}

/* What torch.save and torch.load call the types is in torch_types.c; this is the way back. */
static void every_type(void)
{
    char *path = path_join(test_folder(), "types.pt");
    struct torch_writer *t;
    struct weights *w;
    struct error e = {""};
    uint8_t bytes[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    int wrong = 0;
    CHECK(torch_create(&t, path, false, &e) == 0);
    for (int d = 0; d < DTYPE_COUNT; d++)
        torch_declare(t, dtype_name((enum dtype)d), (enum dtype)d, 2, (int64_t[]){2, 1});
    bool ok = true;
    for (int d = 0; d < DTYPE_COUNT; d++)
        ok = torch_append(t, bytes, 2 * dtype_size((enum dtype)d), &e) == 0 && ok;
    ok = torch_commit(t, &e) == 0 && ok && weights_open(&w, path, &e) == 0;
    for (int d = 0; d < DTYPE_COUNT && ok; d++) {
        const struct weight *x = weights_find(w, dtype_name((enum dtype)d));
        wrong += !x || x->dtype != (enum dtype)d || x->unreadable || x->ndim != 2 ||
                 x->shape[0] != 2 || memcmp(x->data, bytes, weight_bytes(x)) != 0;
    }
    tap_ok(ok && wrong == 0, "a checkpoint with %d element types %s", (int)DTYPE_COUNT, e.text);
    if (ok)
        weights_close(w);
    free(path);
}

static void archives_without(void)
{
    struct weights *w;
    struct error e = {""};
    struct archive a = {0}, b = {0};
    struct member m = stored("read me.txt", "hello", 5);
    add(&a, &m);
    finish(&a, false, "");
    tap_ok(weights_open_memory(&w, a.bytes, a.size, &e) == -1, "archive without a checkpoint: %s",
           e.text);
    m = stored("a.ckpt", "hello", 5);
    add(&b, &m);
    m.name = "b.ckpt";
    add(&b, &m);
    finish(&b, false, "");
    tap_ok(weights_open_memory(&w, b.bytes, b.size, &e) == -1 && strstr(e.text, "2 checkpoints"),
           "archive with two checkpoints: %s", e.text);
    struct archive inner = a; /* four archives deep */
    for (int i = 0; i < 4; i++) {
        struct archive outer = {0};
        m = stored("model.ckpt", inner.bytes, inner.size);
        add(&outer, &m);
        finish(&outer, false, "");
        free(inner.bytes);
        inner = outer;
    }
    tap_ok(weights_open_memory(&w, inner.bytes, inner.size, &e) == -1 && strstr(e.text, "nested"),
           "archives in archives: %s", e.text);
    free(inner.bytes);
    free(b.bytes);
}

int main(void)
{
    good();
    bad_members();
    damage(false);
    damage(true);
    checkpoints();
    every_type();
    archives_without();
    return tap_done();
}
