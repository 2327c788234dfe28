#include "formats/weights/torch_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/bytes.h"
#include "formats/weights/torch_types.h"

#define DATA_ALIGNMENT 64
#define ROOT           "archive/"
#define MEMBER_MAX     32 /* bytes of a member's name */
#define LOCAL_BYTES    30
#define PADDING_ID     0x4246 /* "FB", the extra field PyTorch uses for alignment */
#define ZIP64_ID       1
#define LIMIT32        UINT64_C(0xffffffff)
#define VERSION_ZIP64  45
#define VERSION_PLAIN  20

struct member {
    char name[MEMBER_MAX];
    uint64_t size, offset; /* size of the data, offset of the local header */
    uint32_t crc;
};

struct torch_writer {
    struct atomic_file file;
    bool state_dict, started;
    struct bytes pickle;
    struct member *members; /* data/0 and so on, then data.pkl, byteorder and version */
    size_t count, capacity;
    size_t current;    /* member being written, once started */
    uint64_t written;  /* bytes of its data */
    uint64_t position; /* in the file */
};

/* Pickle protocol 2, without a memo: repeated values are small. */
static void pickle_text(struct bytes *b, const char *s)
{
    bytes_put_text(b, "X");
    bytes_put_number(b, strlen(s), 4);
    bytes_put_text(b, s);
}

static void pickle_int(struct bytes *b, int64_t value)
{
    if (value < 256) {
        bytes_put_text(b, "K");
        bytes_put_number(b, (uint64_t)value, 1);
    } else if (value <= INT32_MAX) {
        bytes_put_text(b, "J");
        bytes_put_number(b, (uint64_t)value, 4);
    } else {
        bytes_put_text(b, "\x8a\x08"); /* LONG1 of eight bytes */
        bytes_put_number(b, (uint64_t)value, 8);
    }
}

static void pickle_ordered_dict(struct bytes *b)
{
    bytes_put_text(b, "ccollections\nOrderedDict\n)R");
}

static void pickle_global(struct bytes *b, const char *module, const char *name)
{
    bytes_put_text(b, "c");
    bytes_put_text(b, module);
    bytes_put_text(b, "\n");
    bytes_put_text(b, name);
    bytes_put_text(b, "\n");
}

/* _rebuild_tensor_v2(('storage', class, key, 'cpu', elements), offset, shape, strides,
 * requires_grad=False, backward_hooks=OrderedDict()). A type that has no class of storage: bytes,
 * and _rebuild_tensor_v3 with the type as the last argument. */
static void pickle_tensor(struct bytes *b, size_t key, enum dtype dtype, int ndim,
                          const int64_t *shape)
{
    const struct torch_type *type = torch_type_of(dtype);
    struct weight t = {.dtype = dtype, .ndim = ndim};
    char text[32];
    if (ndim > 0)
        memcpy(t.shape, shape, (size_t)ndim * sizeof *shape);
    weight_set_row_major(&t);
    pickle_global(b, "torch._utils", type->storage ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
    bytes_put_text(b, "((");
    pickle_text(b, "storage");
    pickle_global(b, type->storage ? "torch" : "torch.storage",
                  type->storage ? type->storage : "UntypedStorage");
    snprintf(text, sizeof text, "%zu", key);
    pickle_text(b, text);
    pickle_text(b, "cpu");
    pickle_int(b, type->storage ? weight_count(&t) : (int64_t)weight_bytes(&t));
    bytes_put_text(b, "tQ");
    pickle_int(b, 0);
    const int64_t *sizes[] = {t.shape, t.stride};
    for (int i = 0; i < 2; i++) {
        bytes_put_text(b, "(");
        for (int d = 0; d < ndim; d++)
            pickle_int(b, sizes[i][d]);
        bytes_put_text(b, "t");
    }
    bytes_put_text(b, "\x89");
    pickle_ordered_dict(b);
    if (!type->storage)
        pickle_global(b, "torch", type->name);
    bytes_put_text(b, "tR");
}

int torch_create(struct torch_writer **out, const char *path, bool state_dict, struct error *e)
{
    struct torch_writer *t = xcalloc(1, sizeof *t);
    if (atomic_file_open(&t->file, path, e) != 0) {
        free(t);
        return -1;
    }
    t->state_dict = state_dict;
    bytes_put_text(&t->pickle, "\x80\x02");
    if (state_dict) {
        bytes_put_text(&t->pickle, "}");
        pickle_text(&t->pickle, "state_dict");
    }
    pickle_ordered_dict(&t->pickle);
    bytes_put_text(&t->pickle, "(");
    *out = t;
    return 0;
}

static void release(struct torch_writer *t)
{
    bytes_release(&t->pickle);
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

/* The CRC is not known before the data; end_member fills it in. */
static int begin_member(struct torch_writer *t, struct member *m, struct error *e)
{
    bool big = m->size >= LIMIT32;
    size_t name = strlen(m->name), zip64 = big ? 20 : 0;
    uint64_t data = t->position + LOCAL_BYTES + name + zip64 + 4;
    size_t padding = (DATA_ALIGNMENT - data % DATA_ALIGNMENT) % DATA_ALIGNMENT;
    struct bytes b = {0};
    m->offset = t->position;
    bytes_put_text(&b, "PK\3\4");
    bytes_put_number(&b, big ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    bytes_put_number(&b, 0, 2 + 2 + 4); /* flags, stored, no time */
    bytes_put_number(&b, 0, 4);         /* CRC */
    bytes_put_number(&b, big ? LIMIT32 : m->size, 4);
    bytes_put_number(&b, big ? LIMIT32 : m->size, 4);
    bytes_put_number(&b, name, 2);
    bytes_put_number(&b, zip64 + 4 + padding, 2);
    bytes_put_text(&b, m->name);
    if (big) {
        bytes_put_number(&b, ZIP64_ID, 2);
        bytes_put_number(&b, 16, 2);
        bytes_put_number(&b, m->size, 8);
        bytes_put_number(&b, m->size, 8);
    }
    bytes_put_number(&b, PADDING_ID, 2);
    bytes_put_number(&b, padding, 2);
    while (padding-- > 0)
        bytes_put_text(&b, "Z");
    int status = write_out(t, b.data, b.size, e);
    bytes_release(&b);
    t->written = 0;
    return status;
}

static int end_member(struct torch_writer *t, struct member *m, struct error *e)
{
    struct bytes b = {0};
    bytes_put_number(&b, m->crc, 4);
    ssize_t n = pwrite(t->file.fd, b.data, 4, (off_t)(m->offset + 14));
    int number = errno;
    bytes_release(&b);
    return n == 4 ? 0 : error_set(e, "%s", n < 0 ? strerror(number) : "short write");
}

static int write_member(struct torch_writer *t, const char *name, const void *data, size_t size,
                        struct error *e)
{
    struct member *m = new_member(t, size);
    snprintf(m->name, sizeof m->name, ROOT "%s", name);
    m->crc = (uint32_t)crc32_z(m->crc, data, size);
    return begin_member(t, m, e) != 0 || write_out(t, data, size, e) != 0 ||
                   end_member(t, m, e) != 0
               ? -1
               : 0;
}

/* Ends complete members, including empty ones, and begins the next. */
static int advance(struct torch_writer *t, struct error *e)
{
    while (t->current < t->count && t->written == t->members[t->current].size) {
        if (end_member(t, &t->members[t->current++], e) != 0)
            return -1;
        t->written = 0;
        if (t->current < t->count && begin_member(t, &t->members[t->current], e) != 0)
            return -1;
    }
    return 0;
}

static int start(struct torch_writer *t, struct error *e)
{
    t->started = true;
    bytes_put_text(&t->pickle, t->state_dict ? "us." : "u.");
    if (t->count > 0 && begin_member(t, &t->members[0], e) != 0)
        return -1;
    return advance(t, e);
}

int torch_append(struct torch_writer *t, const void *data, size_t size, struct error *e)
{
    if (!t->started && start(t, e) != 0)
        return -1;
    const uint8_t *p = data;
    while (size > 0) {
        if (t->current == t->count)
            return error_set(e, "more data than declared");
        struct member *m = &t->members[t->current];
        size_t n = size < m->size - t->written ? size : (size_t)(m->size - t->written);
        m->crc = (uint32_t)crc32_z(m->crc, p, n);
        if (write_out(t, p, n, e) != 0)
            return -1;
        t->written += n;
        p += n, size -= n;
        if (advance(t, e) != 0)
            return -1;
    }
    return 0;
}

static void put_central(struct bytes *b, const struct member *m)
{
    bool big_size = m->size >= LIMIT32, big_offset = m->offset >= LIMIT32;
    bool big = big_size || big_offset;
    bytes_put_text(b, "PK\1\2");
    bytes_put_number(b, big ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    bytes_put_number(b, big ? VERSION_ZIP64 : VERSION_PLAIN, 2);
    bytes_put_number(b, 0, 2 + 2 + 4);
    bytes_put_number(b, m->crc, 4);
    bytes_put_number(b, big_size ? LIMIT32 : m->size, 4);
    bytes_put_number(b, big_size ? LIMIT32 : m->size, 4);
    bytes_put_number(b, strlen(m->name), 2);
    bytes_put_number(b, big ? 4u + (big_size ? 16u : 0u) + (big_offset ? 8u : 0u) : 0u, 2);
    bytes_put_number(b, 0, 2 + 2 + 2);
    bytes_put_number(b, 0, 4); /* attributes */
    bytes_put_number(b, big_offset ? LIMIT32 : m->offset, 4);
    bytes_put_text(b, m->name);
    if (big) {
        bytes_put_number(b, ZIP64_ID, 2);
        bytes_put_number(b, (big_size ? 16 : 0) + (big_offset ? 8 : 0), 2);
    }
    if (big_size) {
        bytes_put_number(b, m->size, 8);
        bytes_put_number(b, m->size, 8);
    }
    if (big_offset)
        bytes_put_number(b, m->offset, 8);
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
        bytes_put_text(&b, "PK\6\6");
        bytes_put_number(&b, 44, 8); /* bytes following */
        bytes_put_number(&b, VERSION_ZIP64, 2);
        bytes_put_number(&b, VERSION_ZIP64, 2);
        bytes_put_number(&b, 0, 4 + 4); /* volumes */
        bytes_put_number(&b, t->count, 8);
        bytes_put_number(&b, t->count, 8);
        bytes_put_number(&b, size, 8);
        bytes_put_number(&b, offset, 8);
        bytes_put_text(&b, "PK\6\7");
        bytes_put_number(&b, 0, 4);
        bytes_put_number(&b, offset + size, 8);
        bytes_put_number(&b, 1, 4);
    }
    bytes_put_text(&b, "PK\5\6");
    bytes_put_number(&b, 0, 2 + 2);
    bytes_put_number(&b, t->count >= 0xffff ? 0xffff : t->count, 2);
    bytes_put_number(&b, t->count >= 0xffff ? 0xffff : t->count, 2);
    bytes_put_number(&b, size >= LIMIT32 ? LIMIT32 : size, 4);
    bytes_put_number(&b, offset >= LIMIT32 ? LIMIT32 : offset, 4);
    bytes_put_number(&b, 0, 2);
    int status = write_out(t, b.data, b.size, e);
    bytes_release(&b);
    return status;
}

static int finish(struct torch_writer *t, struct error *e)
{
    if (!t->started && start(t, e) != 0)
        return -1;
    if (t->current != t->count)
        return error_set(e, "less data than declared");
    if (write_member(t, "data.pkl", t->pickle.data, t->pickle.size, e) != 0 ||
        write_member(t, "byteorder", "little", 6, e) != 0 ||
        write_member(t, "version", "3\n", 2, e) != 0)
        return -1;
    return write_directory(t, e);
}

int torch_commit(struct torch_writer *t, struct error *e)
{
    if (finish(t, e) != 0) {
        torch_abandon(t);
        return -1;
    }
    int status = atomic_file_commit(&t->file, e);
    release(t);
    return status;
}
