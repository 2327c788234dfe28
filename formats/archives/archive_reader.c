#include "formats/archives/archive_reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/base/files.h"
#include "common/base/lazy_library.h"
#include "common/base/message.h"
#include "formats/weights/zip.h"

#define BLOCK     65536
#define PEEK_SIZE 4096

#define FUNCTIONS(X)                                                                               \
    X(archive_read_new)                                                                            \
    X(archive_read_free)                                                                           \
    X(archive_read_support_format_tar)                                                             \
    X(archive_read_support_format_zip_seekable)                                                    \
    X(archive_read_support_format_zip_streamable)                                                  \
    X(archive_read_support_filter_gzip)                                                            \
    X(archive_read_support_filter_zstd)                                                            \
    X(archive_read_support_filter_xz)                                                              \
    X(archive_read_support_filter_bzip2)                                                           \
    X(archive_read_open_fd)                                                                        \
    X(archive_read_next_header)                                                                    \
    X(archive_read_header_position)                                                                \
    X(archive_read_data)                                                                           \
    X(archive_error_string)                                                                        \
    X(archive_errno)                                                                               \
    X(archive_entry_pathname)                                                                      \
    X(archive_entry_pathname_utf8)                                                                 \
    X(archive_entry_filetype)                                                                      \
    X(archive_entry_hardlink)

static struct {
    FUNCTIONS(LAZY_FUNCTION)
} lib;
static struct lazy_library library = LAZY_LIBRARY("archives", SONAME_ARCHIVE, FUNCTIONS);

/* Where a member begins; sorted by the hash of its name. */
struct place {
    uint64_t hash;
    int64_t at;
};

struct archive_reader {
    int fd;
    char *path;
    struct archive *archive;
    struct archive_entry *entry; /* the archive's */
    int64_t begin;               /* where in the file it began to read */
    struct mapped_file file;     /* of a zip, else zeroed */
    struct zip zip;              /* its directory */
    bool truncated;              /* it has none */
    bool cut;                    /* a member could not be read to its end */
    struct place *places;        /* of all members, once they have been needed; else NULL */
    size_t place_count;
    char *name;      /* of the member told last, normalized */
    char number[40]; /* name of a member whose own name cannot be shown */
    int64_t members;
    uint8_t peeked[PEEK_SIZE];
    size_t peeked_size;
};

static bool ends_in(const char *path, const char *ending)
{
    size_t length = strlen(path), n = strlen(ending);
    return length > n && strcasecmp(path + length - n, ending) == 0;
}

bool archive_has_name(const char *path)
{
    static const char *const endings[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst",
                                          ".zip", ".tar.xz", ".txz", ".tar.bz2", ".tbz2"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_in(path, endings[i]))
            return true;
    return false;
}

bool archive_is_seekable(const char *path)
{
    return ends_in(path, ".tar") || ends_in(path, ".zip");
}

/* The reason that libarchive gives, without numbers where there would be many. A system that lacks
 * memory or a device that fails is no fault of the archive. */
static int failed(struct archive *a, struct error *e)
{
    const char *reason = lib.archive_error_string(a);
    int number = lib.archive_errno(a);
    if (reason && strncasecmp(reason, "truncated", 9) == 0)
        error_set(e, "truncated archive");
    else
        error_set(e, "%s", reason ? reason : "damaged archive");
    e->text[0] = (char)tolower((unsigned char)e->text[0]);
    bool system = number == EIO || number == ENOMEM || number == EMFILE || number == ENFILE;
    return system ? READ_SYSTEM_FAILED : -1;
}

static int open_file(int *fd, const char *path, struct error *e)
{
    struct stat st;
    int tries = 0, status;
    do {
        *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block */
        status = *fd < 0 ? read_failed(e, errno) : 0;
    } while (read_again(status, &tries));
    if (status == 0 && fstat(*fd, &st) != 0)
        status = read_failed(e, errno);
    if (status == 0 && !S_ISREG(st.st_mode))
        status = error_set(e, S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    if (status != 0 && *fd >= 0)
        close(*fd);
    return status;
}

/* whole: the archive is read from its beginning. */
static struct archive *archive_new(bool whole)
{
    struct archive *a = xallocated(lib.archive_read_new());
    lib.archive_read_support_format_tar(a);
    lib.archive_read_support_format_zip_streamable(a);
    if (whole)
        lib.archive_read_support_format_zip_seekable(a);
    lib.archive_read_support_filter_gzip(a);
    lib.archive_read_support_filter_zstd(a);
    lib.archive_read_support_filter_xz(a);
    lib.archive_read_support_filter_bzip2(a);
    return a;
}

/* Reads on from there. */
static int begin_at(struct archive_reader *r, int64_t at, struct error *e)
{
    if (r->archive)
        lib.archive_read_free(r->archive);
    r->archive = archive_new(at == 0);
    r->begin = at;
    r->cut = false;
    if (lseek(r->fd, at, SEEK_SET) != at)
        return read_failed(e, errno);
    if (lib.archive_read_open_fd(r->archive, r->fd, BLOCK) != ARCHIVE_OK)
        return failed(r->archive, e);
    return 0;
}

/* libarchive does not tell where in a zip its members are. A truncated one has no directory; its
 * members can be read all the same. */
static int read_directory(struct archive_reader *r, const char *path, struct error *e)
{
    struct error damage;
    if (file_map(&r->file, path, e) != 0)
        return -1;
    r->truncated = zip_read(&r->zip, r->file.data, r->file.size, &damage) != 0;
    return 0;
}

/* A reader that reads on from there. */
static int open_from(struct archive_reader **out, const char *path, int64_t at, struct error *e)
{
    if (lazy_library_load(&library, &lib, e) != 0)
        return -1;
    struct archive_reader *r = xcalloc(1, sizeof *r);
    int status = open_file(&r->fd, path, e);
    if (status != 0) {
        free(r);
        return status;
    }
    r->path = xstrdup(path);
    status = begin_at(r, at, e);
    if (status != 0)
        archive_reader_close(r);
    else
        *out = r;
    return status;
}

int archive_reader_open(struct archive_reader **out, const char *path, struct error *e)
{
    struct archive_reader *r;
    int status = open_from(&r, path, 0, e);
    if (status != 0)
        return status;
    if (ends_in(path, ".zip"))
        status = read_directory(r, path, e);
    if (status != 0)
        archive_reader_close(r);
    else
        *out = r;
    return status;
}

void archive_reader_close(struct archive_reader *r)
{
    if (!r)
        return;
    if (r->archive)
        lib.archive_read_free(r->archive);
    free(r->places);
    free(r->name);
    free(r->path);
    if (r->file.path) {
        zip_release(&r->zip);
        file_unmap(&r->file);
    }
    close(r->fd);
    free(r);
}

/* As `tar -C FOLDER .` writes "./NAME", and tar -P "/NAME". malloc'ed. */
static char *normalize(const char *name)
{
    return path_normalize(name + strspn(name, "/"));
}

static const char *name_of(struct archive_reader *r)
{
    const char *name = lib.archive_entry_pathname(r->entry);
    if (!name)
        name = lib.archive_entry_pathname_utf8(r->entry);
    if (!name) {
        snprintf(r->number, sizeof r->number, "member %" PRId64, r->members);
        name = r->number;
    }
    return name;
}

/* Where the member's header is in the file. */
static int64_t position(const struct archive_reader *r, const char *name)
{
    if (!r->file.path)
        return r->begin + lib.archive_read_header_position(r->archive);
    const struct zip_member *m = r->truncated ? NULL : zip_find(&r->zip, name);
    return m ? (int64_t)m->header_offset : 0;
}

/* Whether the file ends before the archive does. libarchive, from 3.7 on, goes over the rest of a
 * member without looking whether it is there, and takes that for the end of a tar. */
static bool is_truncated(const struct archive_reader *r)
{
    struct stat st;
    return r->truncated || r->cut ||
           (fstat(r->fd, &st) == 0 && lseek(r->fd, 0, SEEK_CUR) > st.st_size);
}

int archive_reader_next(struct archive_reader *r, struct archive_member *m, struct error *e)
{
    for (;;) {
        int status = lib.archive_read_next_header(r->archive, &r->entry);
        r->peeked_size = 0;
        r->members++;
        if (status == ARCHIVE_RETRY)
            continue;
        if (status == ARCHIVE_EOF)
            return is_truncated(r) ? error_set(e, "truncated archive") : 0;
        if (status < ARCHIVE_WARN)
            return failed(r->archive, e);
        unsigned kind = lib.archive_entry_filetype(r->entry);
        m->link = kind == AE_IFLNK || lib.archive_entry_hardlink(r->entry);
        if (kind != AE_IFREG && !m->link)
            continue;
        free(r->name);
        m->written = name_of(r);
        m->name = r->name = normalize(m->written);
        m->at = position(r, m->written);
        return 1;
    }
}

static int next_file(struct archive_reader *r, struct archive_member *m, struct error *e)
{
    int status;
    do
        status = archive_reader_next(r, m, e);
    while (status == 1 && m->link);
    return status;
}

static int scan(struct archive_reader *r, const char *name, struct archive_member *m,
                struct error *e)
{
    int status;
    do
        status = next_file(r, m, e);
    while (status == 1 && strcmp(m->name, name) != 0);
    return status;
}

static int compare_places(const void *a, const void *b)
{
    uint64_t x = ((const struct place *)a)->hash, y = ((const struct place *)b)->hash;
    return x < y ? -1 : x > y;
}

static int find_places(struct archive_reader *r, struct error *e)
{
    struct archive_member m;
    size_t capacity = 0;
    int status = begin_at(r, 0, e);
    if (status != 0)
        return status;
    while ((status = next_file(r, &m, e)) == 1) {
        if (r->place_count == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            r->places = xrealloc(r->places, capacity * sizeof *r->places);
        }
        r->places[r->place_count++] = (struct place){XXH3_64bits(m.name, strlen(m.name)), m.at};
    }
    if (r->places)
        qsort(r->places, r->place_count, sizeof *r->places, compare_places);
    return status;
}

static int jump(struct archive_reader *r, const char *name, struct archive_member *m,
                struct error *e)
{
    struct place wanted = {.hash = XXH3_64bits(name, strlen(name))};
    const struct place *p =
        bsearch(&wanted, r->places, r->place_count, sizeof wanted, compare_places);
    if (!p)
        return 0;
    int status = begin_at(r, p->at, e);
    if (status == 0)
        status = next_file(r, m, e);
    return status == 1 && strcmp(m->name, name) != 0 ? 0 : status;
}

static int find(struct archive_reader *r, const char *name, struct archive_member *m,
                struct error *e)
{
    int status = r->places ? 0 : scan(r, name, m, e);
    if (status != 0)
        return status;
    if (!r->places && archive_is_seekable(r->path) && !r->truncated)
        status = find_places(r, e);
    if (status != 0)
        return status;
    if (r->places)
        return jump(r, name, m, e);
    status = begin_at(r, 0, e);
    return status == 0 ? scan(r, name, m, e) : status;
}

int archive_reader_find(struct archive_reader *r, const char *name, struct archive_member *m,
                        struct error *e)
{
    char *normal = normalize(name);
    int status = find(r, normal, m, e);
    free(normal);
    return status;
}

/* Returns the number of bytes read, fewer than size only at the end; or -1 or READ_SYSTEM_FAILED.
 */
static int64_t read_some(struct archive_reader *r, uint8_t *data, size_t size, struct error *e)
{
    size_t got = 0;
    while (got < size) {
        ssize_t n = lib.archive_read_data(r->archive, data + got, size - got);
        if (n == ARCHIVE_RETRY)
            continue;
        if (n < 0) {
            r->cut = r->cut || (n == ARCHIVE_FATAL && !r->file.path); /* zips go on */
            return failed(r->archive, e);
        }
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (int64_t)got;
}

int archive_reader_peek(struct archive_reader *r, const uint8_t **data, size_t *size,
                        struct error *e)
{
    int64_t n = 0;
    if (r->peeked_size == 0)
        n = read_some(r, r->peeked, PEEK_SIZE, e);
    if (n < 0)
        return (int)n;
    r->peeked_size += (size_t)n;
    *data = r->peeked;
    *size = r->peeked_size;
    return 0;
}

int archive_reader_read(struct archive_reader *r, uint8_t **data, size_t *size, size_t limit,
                        struct error *e)
{
    size_t capacity = 2 * BLOCK, used = r->peeked_size;
    uint8_t *content = xmalloc(capacity + 1);
    memcpy(content, r->peeked, used);
    int64_t n;
    while ((n = read_some(r, content + used, capacity - used, e)) > 0) {
        used += (size_t)n;
        if (used > limit) {
            n = error_set(e, "more than %zu bytes", limit);
            break;
        }
        if (used == capacity) {
            capacity *= 2;
            content = xrealloc(content, capacity + 1);
        }
    }
    if (n < 0) {
        free(content);
        return (int)n;
    }
    content[used] = 0;
    *data = content;
    *size = used;
    return 0;
}

int archive_member_read(uint8_t **data, size_t *size, const char *path, const char *name,
                        int64_t at, size_t limit, struct error *e)
{
    struct archive_reader *r;
    struct archive_member m;
    int status = open_from(&r, path, at, e);
    if (status != 0)
        return status;
    char *normal = normalize(name);
    status = next_file(r, &m, e);
    if (status == 1 && strcmp(m.name, normal) == 0)
        status = archive_reader_read(r, data, size, limit, e);
    else if (status >= 0)
        status = error_set(e, "the archive has changed");
    free(normal);
    archive_reader_close(r);
    return status;
}
