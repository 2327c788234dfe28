#include "formats/weights/zip.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include "common/base/files.h"
#include "common/base/mapping_faults.h"
#include "common/base/message.h"

#define LOCAL_SIGNATURE     0x04034b50u
#define CENTRAL_SIGNATURE   0x02014b50u
#define END_SIGNATURE       0x06054b50u
#define END64_SIGNATURE     0x06064b50u
#define LOCATOR64_SIGNATURE 0x07064b50u
#define LOCAL_BYTES         30u
#define CENTRAL_BYTES       46u
#define END_BYTES           22u
#define END64_BYTES         56u
#define LOCATOR64_BYTES     20u
#define COMMENT_MAX         65535u
#define FLAG_ENCRYPTED      1u
#define METHOD_STORED       0
#define METHOD_DEFLATED     8
#define DEFLATE_RATIO_MAX   1032u /* deflate's limit (zlib's technical details) */
#define IN_MEMORY_MAX       ((size_t)1 << 20)

struct zip_inflated {
    struct zip_inflated *next;
    void *mapping;
    size_t size;
};

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

bool zip_recognize(const uint8_t *data, size_t size)
{
    return size >= 4 && (u32(data) == LOCAL_SIGNATURE || u32(data) == END_SIGNATURE);
}

/* Finds the last end-of-directory record whose comment ends with the file. */
static const uint8_t *find_end(const uint8_t *data, size_t size)
{
    for (size_t back = END_BYTES; back <= size && back <= END_BYTES + COMMENT_MAX; back++) {
        const uint8_t *p = data + size - back;
        if (u32(p) == END_SIGNATURE && u16(p + 20) == back - END_BYTES)
            return p;
    }
    return NULL;
}

struct directory {
    uint64_t offset, size, count;
};

static int find_directory(struct directory *d, const uint8_t *data, size_t size, struct error *e)
{
    const uint8_t *end = find_end(data, size);
    if (!end)
        return error_set(e, "truncated zip archive (no directory at the end)");
    *d = (struct directory){.count = u16(end + 10), .size = u32(end + 12), .offset = u32(end + 16)};
    size_t at = (size_t)(end - data);
    if (at >= LOCATOR64_BYTES && u32(end - LOCATOR64_BYTES) == LOCATOR64_SIGNATURE) {
        uint64_t end64 = u64(end - LOCATOR64_BYTES + 8);
        if (at < END64_BYTES || end64 > at - END64_BYTES || u32(data + end64) != END64_SIGNATURE)
            return error_set(e, "damaged zip64 directory");
        d->count = u64(data + end64 + 32);
        d->size = u64(data + end64 + 40);
        d->offset = u64(data + end64 + 48);
    }
    if (d->offset > size || d->size > size - d->offset || d->count > d->size / CENTRAL_BYTES)
        return error_set(e, "damaged zip directory");
    return 0;
}

/* The zip64 extra field replaces, in this order, the 32-bit numbers whose bits are all ones. */
static int read_zip64_extra(struct zip_member *m, const uint8_t *extra, size_t size)
{
    uint64_t *replaced[3];
    int count = 0;
    if (m->size == UINT32_MAX)
        replaced[count++] = &m->size;
    if (m->compressed_size == UINT32_MAX)
        replaced[count++] = &m->compressed_size;
    if (m->header_offset == UINT32_MAX)
        replaced[count++] = &m->header_offset;
    while (size >= 4) {
        size_t field = u16(extra + 2);
        if (field > size - 4)
            return -1;
        if (u16(extra) == 1) {
            const uint8_t *p = extra + 4;
            if (field < 8 * (size_t)count)
                return -1;
            for (int i = 0; i < count; i++, p += 8)
                *replaced[i] = u64(p);
            return 0;
        }
        extra += 4 + field;
        size -= 4 + field;
    }
    return 0; /* the numbers really are 2^32 - 1 */
}

static int compare_members(const void *a, const void *b)
{
    const struct zip_member *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

int zip_read(struct zip *z, const uint8_t *data, size_t size, struct error *e)
{
    *z = (struct zip){.data = data, .size = size};
    struct directory d = {0};
    if (find_directory(&d, data, size, e) != 0)
        return -1;
    const uint8_t *p = data + d.offset;
    size_t left = (size_t)d.size;
    z->members = arena_allocate(&z->arena, (size_t)d.count * sizeof *z->members);
    for (uint64_t i = 0; i < d.count; i++) {
        if (left < CENTRAL_BYTES || u32(p) != CENTRAL_SIGNATURE)
            return error_set(e, "damaged zip directory");
        size_t name = u16(p + 28), extra = u16(p + 30), comment = u16(p + 32);
        if (left - CENTRAL_BYTES < name + extra + comment)
            return error_set(e, "damaged zip directory");
        struct zip_member m = {
            .name = arena_text(&z->arena, p + CENTRAL_BYTES, name),
            .flags = u16(p + 8),
            .method = u16(p + 10),
            .crc32 = u32(p + 16),
            .compressed_size = u32(p + 20),
            .size = u32(p + 24),
            .header_offset = u32(p + 42),
        };
        if (strlen(m.name) != name || read_zip64_extra(&m, p + CENTRAL_BYTES + name, extra) != 0)
            return error_set(e, "damaged zip directory");
        z->members[z->count++] = m;
        p += CENTRAL_BYTES + name + extra + comment;
        left -= CENTRAL_BYTES + name + extra + comment;
    }
    z->by_name = arena_allocate(&z->arena, z->count * sizeof *z->by_name);
    for (size_t i = 0; i < z->count; i++)
        z->by_name[i] = &z->members[i];
    qsort(z->by_name, z->count, sizeof *z->by_name, compare_members);
    return 0;
}

void zip_release(struct zip *z)
{
    while (z->inflated) {
        struct zip_inflated *i = z->inflated;
        z->inflated = i->next;
        munmap(i->mapping, i->size);
        free(i);
    }
    arena_release(&z->arena);
}

struct zip_member *zip_find(const struct zip *z, const char *name)
{
    size_t begin = 0, end = z->count;
    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;
        int order = strcmp(name, z->by_name[middle]->name);
        if (order == 0)
            return z->by_name[middle];
        if (order < 0)
            end = middle;
        else
            begin = middle + 1;
    }
    return NULL;
}

static int open_unlinked(struct error *e)
{
    const char *folders[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        if (!folders[i] || !*folders[i])
            continue;
        char *path = path_join(folders[i], "ccld-XXXXXX");
        int fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
        free(path);
        if (fd >= 0)
            return fd;
    }
    return error_errno(e, "cannot create a temporary file");
}

/* Receives inflated bytes: in memory if set, otherwise in fd. */
struct sink {
    int fd;
    uint8_t *memory;
    uint64_t size, limit;
    uLong crc;
};

static int sink_write(struct sink *s, const uint8_t *bytes, size_t size, struct error *e)
{
    if (size > s->limit - s->size)
        return error_set(e, "more data than the zip directory declares");
    if (s->memory)
        memcpy(s->memory + s->size, bytes, size);
    else if (write_all(s->fd, bytes, size, e) != 0)
        return error_prefix(e, "cannot write a temporary file");
    s->crc = crc32_z(s->crc, bytes, size);
    s->size += size;
    return 0;
}

static int inflate_to(struct sink *s, const uint8_t *data, uint64_t size, struct error *e)
{
    z_stream stream = {0};
    uint8_t buffer[32 << 10];
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK)
        return error_set(e, "cannot initialize zlib");
    int code = Z_OK, status = 0;
    while (code != Z_STREAM_END && status == 0) {
        if (stream.avail_in == 0 && size > 0) {
            stream.next_in = (Bytef *)data;
            stream.avail_in = size < (1u << 30) ? (uInt)size : 1u << 30;
            data += stream.avail_in;
            size -= stream.avail_in;
        }
        stream.next_out = buffer;
        stream.avail_out = sizeof buffer;
        code = inflate(&stream, Z_NO_FLUSH);
        if (code != Z_OK && code != Z_STREAM_END)
            status = error_set(e, "damaged deflated data");
        else
            status = sink_write(s, buffer, sizeof buffer - stream.avail_out, e);
    }
    inflateEnd(&stream);
    return status;
}

static int map_inflated(struct zip *z, struct zip_member *m, int fd, struct error *e)
{
    void *mapping = mmap(NULL, (size_t)m->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapping == MAP_FAILED)
        return error_errno(e, "cannot map a temporary file");
    mapping_faults_handle();
    struct zip_inflated *i = xmalloc(sizeof *i);
    *i = (struct zip_inflated){z->inflated, mapping, (size_t)m->size};
    z->inflated = i;
    m->data = mapping;
    return 0;
}

static int inflate_member(struct zip *z, struct zip_member *m, const uint8_t *data, struct error *e)
{
    if (m->size / DEFLATE_RATIO_MAX > m->compressed_size)
        return error_set(e, "impossible size in the zip directory");
    struct sink s = {.fd = -1, .limit = m->size, .crc = crc32_z(0, NULL, 0)};
    if (m->size <= IN_MEMORY_MAX)
        s.memory = arena_allocate(&z->arena, (size_t)m->size);
    else if ((s.fd = open_unlinked(e)) < 0)
        return -1;
    int status = inflate_to(&s, data, m->compressed_size, e);
    if (status == 0 && s.size != m->size)
        status = error_set(e, "less data than the zip directory declares");
    if (status == 0 && s.crc != m->crc32)
        status = error_set(e, "damaged deflated data (CRC mismatch)");
    if (status == 0 && s.memory)
        m->data = s.memory;
    else if (status == 0)
        status = map_inflated(z, m, s.fd, e);
    if (s.fd >= 0)
        close(s.fd);
    return status;
}

int zip_open_member(struct zip *z, struct zip_member *m, struct error *e)
{
    if (m->data)
        return 0;
    uint64_t at = m->header_offset;
    if (z->size < LOCAL_BYTES || at > z->size - LOCAL_BYTES || u32(z->data + at) != LOCAL_SIGNATURE)
        return error_set(e, "damaged zip archive (no header at the offset in the directory)");
    if (m->flags & FLAG_ENCRYPTED)
        return error_set(e, "encrypted zip archive");
    uint64_t skip = LOCAL_BYTES + (uint64_t)u16(z->data + at + 26) + u16(z->data + at + 28);
    if (skip > z->size - at || m->compressed_size > z->size - at - skip)
        return error_set(e, "truncated zip archive");
    const uint8_t *data = z->data + at + skip;
    if (m->method == METHOD_DEFLATED)
        return inflate_member(z, m, data, e);
    if (m->method != METHOD_STORED)
        return error_set(e, "unsupported zip compression method %d", m->method);
    if (m->size != m->compressed_size)
        return error_set(e, "damaged zip directory");
    m->data = data;
    return 0;
}
