#include "formats/weights/torch_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "common/base/files.h"
#include "common/base/message.h"

#define DATA_ALIGNMENT 64
#define ROOT           "archive/"
#define MEMBER_MAX     32 /* bytes of a member's name */
#define LOCAL_BYTES    30
#define PADDING_ID     0x4246 /* the extra field PyTorch itself aligns with: "FB" */
#define ZIP64_ID       1
#define LIMIT32        UINT64_C(0xffffffff)
#define VERSION_ZIP64  45
#define VERSION_PLAIN  20

struct bytes {
    uint8_t *data;
    size_t size, capacity;
};

struct member {
    char name[MEMBER_MAX];
    uint64_t size, offset; /* of the data's bytes, of the local header */
    uint32_t crc;
};

struct torch_writer {
    struct atomic_file file;
    bool state_dict, started;
    struct bytes pickle;
    struct member *members; /* data/0 and so on; data.pkl and the small ones come at the end */
    size_t count, capacity;
    size_t current;    /* member being written, from `started` on */
    uint64_t written;  /* bytes of its data */
    uint64_t position; /* in the file */
};

static void put(struct bytes *b, const void *data, size_t size)
{
    if (size > b->capacity - b->size) {
        b->capacity = 2 * (b->capacity + size) + 256;
        b->data = xrealloc(b->data, b->capacity);
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_text(struct bytes *b, const char *s)
{
    put(b, s, strlen(s));
}

static void put_number(struct bytes *b, uint64_t value, int size)
{
    for (int i = 0; i < size; i++, value >>= 8)
        put(b, &(uint8_t){(uint8_t)value}, 1);
}

/* Pickle, protocol 2, without a memo: what is repeated is small. */
static void pickle_text(struct bytes *b, const char *s)
{
    put_text(b, "X");
    put_number(b, strlen(s), 4);
    put_text(b, s);
}

static void pickle_int(struct bytes *b, int64_t value)
{
    if (value < 256) {
        put_text(b, "K");
        put_number(b, (uint64_t)value, 1);
    } else if (value <= INT32_MAX) {
        put_text(b, "J");
        put_number(b, (uint64_t)value, 4);
    } else {
        put_text(b, "\x8a\x08"); /* LONG1 of eight bytes */
        put_number(b, (uint64_t)value, 8);
    }
}

static void pickle_ordered_dict(struct bytes *b)
{
    put_text(b, "ccollections\nOrderedDict\n)R");
}

static const char *storage_class(enum dtype d)
{
    static const char *const names[DTYPE_COUNT] = {
        [DTYPE_F32] = "Float",  [DTYPE_F16] = "Half", [DTYPE_BF16] = "BFloat16",
        [DTYPE_F64] = "Double", [DTYPE_I64] = "Long", [DTYPE_I32] = "Int",
        [DTYPE_I16] = "Short",  [DTYPE_I8] = "Char",  [DTYPE_U8] = "Byte",
        [DTYPE_BOOL] = "Bool",
    };
    return names[d];
}

/* _rebuild_tensor_v2(('storage', class, key, 'cpu', elements), offset, shape, strides, no gradient,
 * no hooks). */
static void pickle_tensor(struct bytes *b, size_t key, enum dtype dtype, int ndim,
                          const int64_t *shape)
{
    struct weight t = {.dtype = dtype, .ndim = ndim};
    char text[32];
    if (ndim > 0)
        memcpy(t.shape, shape, (size_t)ndim * sizeof *shape);
    weight_set_row_major(&t);
    put_text(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(b, "storage");
    put_text(b, "ctorch\n");
    put_text(b, storage_class(dtype));
    put_text(b, "Storage\n");
    snprintf(text, sizeof text, "%zu", key);
    pickle_text(b, text);
    pickle_text(b, "cpu");
    pickle_int(b, weight_count(&t));
    put_text(b, "tQ");
    pickle_int(b, 0);
    const int64_t *sizes[] = {t.shape, t.stride};
    for (int i = 0; i < 2; i++) {
        put_text(b, "(");
        for (int d = 0; d < ndim; d++)
            pickle_int(b, sizes[i][d]);
        put_text(b, "t");
    }
    put_text(b, "\x89");
    pickle_ordered_dict(b);
    put_text(b, "tR");
}

int torch_create(struct torch_writer **out, const char *path, bool state_dict, struct error *e)
{
    struct torch_writer *t = xcalloc(1, sizeof *t);
    if (atomic_file_open(&t->file, path, e)) {
        free(t);
        return -1;
    }
    t->state_dict = state_dict;
    put_text(&t->pickle, "\x80\x02");
    if (state_dict) {
        put_text(&t->pickle, "}");
        pickle_text(&t->pickle, "state_dict");
    }
    pickle_ordered_dict(&t->pickle);
    put_text(&t->pickle, "(");
    *out = t;
    return 0;
}

static void release(struct torch_writer *t)
{
    free(t->pickle.data);
    free(t->members);
    free(t);
}

void torch_abandon(struct torch_writer *t)
{
    if (!t)
        return;
    atomic_file_abandon(&t->file);
    release(t);
}

static struct member *new_member(struct torch_writer *t, uint64_t size)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 64;
        t->members = xrealloc(t->members, t->capacity * sizeof *t->members);
    }
    struct member *m = &t->members[t->count++];
    *m = (struct member){.size = size, .crc = (uint32_t)crc32_z(0, NULL, 0)};
    return m;
}

void torch_declare(struct torch_writer *t, const char *name, enum dtype dtype, int ndim,
                   const int64_t *shape)
{
    int64_t size = shape_bytes(ndim, shape, dtype);
    CHECK(!t->started && size >= 0 && ndim <= WEIGHT_MAX_DIMS);
    pickle_text(&t->pickle, name);
    pickle_tensor(&t->pickle, t->count, dtype, ndim, shape);
    size_t key = t->count;
    struct member *m = new_member(t, (uint64_t)size);
    snprintf(m->name, sizeof m->name, ROOT "data/%zu", key);
}

static int write_out(struct torch_writer *t, const void *data, size_t size, struct error *e)
{
    t->position += size;
    return write_all(t->file.fd, data, size, e);
}

/* Sizes are known before the data, the CRC is not: it is filled in by end_member. */
static int begin_member(struct torch_writer *t, struct member *m, struct error *e)
{
    bool big = m->size >= LIMIT32;
    size_t name = strlen(m->name), zip64 = big ? 20 : 0;
    uint64_t data = t->position + LOCAL_BYTES + name + zip64 + 4;
    size_t padding = (DATA_ALIGNMENT - data % DATA_ALIGNMENT) % DATA_ALIGNMENT;
    struct bytes b = {0};
    m->offset = t->position;
    put_text(&b, "PK\3\4");
    put_number(&b, big ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    put_number(&b, 0, 2 + 2 + 4); /* flags, stored, no time */
    put_number(&b, 0, 4);         /* CRC */
    put_number(&b, big ? LIMIT32 : m->size, 4);
    put_number(&b, big ? LIMIT32 : m->size, 4);
    put_number(&b, name, 2);
    put_number(&b, zip64 + 4 + padding, 2);
    put_text(&b, m->name);
    if (big) {
        put_number(&b, ZIP64_ID, 2);
        put_number(&b, 16, 2);
        put_number(&b, m->size, 8);
        put_number(&b, m->size, 8);
    }
    put_number(&b, PADDING_ID, 2);
    put_number(&b, padding, 2);
    while (padding-- > 0)
        put_text(&b, "Z");
    int rc = write_out(t, b.data, b.size, e);
    free(b.data);
    t->written = 0;
    return rc;
}

static int end_member(struct torch_writer *t, struct member *m, struct error *e)
{
    struct bytes b = {0};
    put_number(&b, m->crc, 4);
    ssize_t n = pwrite(t->file.fd, b.data, 4, (off_t)(m->offset + 14));
    int number = errno;
    free(b.data);
    return n == 4 ? 0 : error_set(e, "%s", n < 0 ? strerror(number) : "short write");
}

static int write_member(struct torch_writer *t, const char *name, const void *data, size_t size,
                        struct error *e)
{
    struct member *m = new_member(t, size);
    snprintf(m->name, sizeof m->name, ROOT "%s", name);
    m->crc = (uint32_t)crc32_z(m->crc, data, size);
    return begin_member(t, m, e) || write_out(t, data, size, e) || end_member(t, m, e) ? -1 : 0;
}

/* Ends members that are complete and begins the next, so that empty ones pass by. */
static int advance(struct torch_writer *t, struct error *e)
{
    while (t->current < t->count && t->written == t->members[t->current].size) {
        if (end_member(t, &t->members[t->current++], e))
            return -1;
        t->written = 0;
        if (t->current < t->count && begin_member(t, &t->members[t->current], e))
            return -1;
    }
    return 0;
}

static int start(struct torch_writer *t, struct error *e)
{
    t->started = true;
    put_text(&t->pickle, t->state_dict ? "us." : "u.");
    if (t->count > 0 && begin_member(t, &t->members[0], e))
        return -1;
    return advance(t, e);
}

int torch_append(struct torch_writer *t, const void *data, size_t size, struct error *e)
{
    if (!t->started && start(t, e))
        return -1;
    const uint8_t *p = data;
    while (size > 0) {
        if (t->current == t->count)
            return error_set(e, "more data than tensors were declared");
        struct member *m = &t->members[t->current];
        size_t n = size < m->size - t->written ? size : (size_t)(m->size - t->written);
        m->crc = (uint32_t)crc32_z(m->crc, p, n);
        if (write_out(t, p, n, e))
            return -1;
        t->written += n;
        p += n, size -= n;
        if (advance(t, e))
            return -1;
    }
    return 0;
}

static void put_central(struct bytes *b, const struct member *m)
{
    bool big_size = m->size >= LIMIT32, big_offset = m->offset >= LIMIT32;
    bool big = big_size || big_offset;
    put_text(b, "PK\1\2");
    put_number(b, big ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    put_number(b, big ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    put_number(b, 0, 2 + 2 + 4);
    put_number(b, m->crc, 4);
    put_number(b, big_size ? LIMIT32 : m->size, 4);
    put_number(b, big_size ? LIMIT32 : m->size, 4);
    put_number(b, strlen(m->name), 2);
    put_number(b, big ? 4u + (big_size ? 16u : 0u) + (big_offset ? 8u : 0u) : 0u, 2);
    put_number(b, 0, 2 + 2 + 2);
    put_number(b, 0, 4); /* attributes */
    put_number(b, big_offset ? LIMIT32 : m->offset, 4);
    put_text(b, m->name);
    if (big) {
        put_number(b, ZIP64_ID, 2);
        put_number(b, (big_size ? 16 : 0) + (big_offset ? 8 : 0), 2);
    }
    if (big_size) {
        put_number(b, m->size, 8);
        put_number(b, m->size, 8);
    }
    if (big_offset)
        put_number(b, m->offset, 8);
}

static int write_directory(struct torch_writer *t, struct error *e)
{
    struct bytes b = {0};
    uint64_t offset = t->position;
    for (size_t i = 0; i < t->count; i++)
        put_central(&b, &t->members[i]);
    uint64_t size = b.size;
    bool big = offset >= LIMIT32 || size >= LIMIT32 || t->count >= 0xffff;
    if (big) {
        put_text(&b, "PK\6\6");
        put_number(&b, 44, 8); /* bytes that follow */
        put_number(&b, VERSION_ZIP64, 2);
        put_number(&b, VERSION_ZIP64, 2);
        put_number(&b, 0, 4 + 4); /* volumes */
        put_number(&b, t->count, 8);
        put_number(&b, t->count, 8);
        put_number(&b, size, 8);
        put_number(&b, offset, 8);
        put_text(&b, "PK\6\7");
        put_number(&b, 0, 4);
        put_number(&b, offset + size, 8);
        put_number(&b, 1, 4);
    }
    put_text(&b, "PK\5\6");
    put_number(&b, 0, 2 + 2);
    put_number(&b, t->count >= 0xffff ? 0xffff : t->count, 2);
    put_number(&b, t->count >= 0xffff ? 0xffff : t->count, 2);
    put_number(&b, size >= LIMIT32 ? LIMIT32 : size, 4);
    put_number(&b, offset >= LIMIT32 ? LIMIT32 : offset, 4);
    put_number(&b, 0, 2);
    int rc = write_out(t, b.data, b.size, e);
    free(b.data);
    return rc;
}

static int finish(struct torch_writer *t, struct error *e)
{
    if (!t->started && start(t, e))
        return -1;
    if (t->current != t->count)
        return error_set(e, "less data than tensors were declared");
    if (write_member(t, "data.pkl", t->pickle.data, t->pickle.size, e) ||
        write_member(t, "byteorder", "little", 6, e) || write_member(t, "version", "3\n", 2, e))
        return -1;
    return write_directory(t, e);
}

int torch_commit(struct torch_writer *t, struct error *e)
{
    if (finish(t, e)) {
        torch_abandon(t);
        return -1;
    }
    int rc = atomic_file_commit(&t->file, e);
    release(t);
    return rc;
}
