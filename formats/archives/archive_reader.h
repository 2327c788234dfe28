#ifndef CCLD_FORMATS_ARCHIVES_ARCHIVE_READER_H
#define CCLD_FORMATS_ARCHIVES_ARCHIVE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

/* Members of tar and zip archives, tar also compressed by gzip, zstd, xz or bzip2, read in order as
 * a stream by libarchive. Nothing is unpacked to disk. A reader is for one thread at a time. */
struct archive_reader;

/* Whether a file is taken for an archive, which its name tells: *.tar, *.tar.gz, *.tgz, *.tar.zst,
 * *.tzst, *.tar.xz, *.txz, *.tar.bz2, *.tbz2 and *.zip, in either case. */
bool archive_has_name(const char *path);
/* Whether members can be read in any order by archive_member_read: an uncompressed tar, or a zip.
 */
bool archive_is_seekable(const char *path);

/* Functions that fail return -1 or READ_SYSTEM_FAILED (common/base/files.h). */
int archive_reader_open(struct archive_reader **out, const char *path, struct error *e);
void archive_reader_close(struct archive_reader *r); /* NULL is fine */

struct archive_member {
    /* Normalized (path_normalize, common/base/files.h) and without a slash at its beginning, and as
     * in the archive; valid until the next call. */
    const char *name, *written;
    int64_t at; /* for archive_member_read */
    bool link;  /* a symbolic or hard link, which has no content; archive_reader_find finds none */
};
/* Goes to the next regular file or link. Returns 1, or 0 at the end. Fails if the rest of the
 * archive cannot be read. */
int archive_reader_next(struct archive_reader *r, struct archive_member *m, struct error *e);
/* Goes to the member of this name, however the archive or the caller spells it. Fast for one that
 * comes later than the last, and in seekable archives; else the archive is read from its beginning.
 * Returns as archive_reader_next; 0: the archive has none. */
int archive_reader_find(struct archive_reader *r, const char *name, struct archive_member *m,
                        struct error *e);
/* The first bytes of the member, at most 4096; borrowed until the next call. */
int archive_reader_peek(struct archive_reader *r, const uint8_t **data, size_t *size,
                        struct error *e);
/* The whole member, also after a peek, but only once. *data is malloc'ed and followed by a zero
 * byte. Fails if it has more than `limit` bytes or cannot be read. */
int archive_reader_read(struct archive_reader *r, uint8_t **data, size_t *size, size_t limit,
                        struct error *e);

/* Reads the member `name` of a seekable archive as archive_reader_read does. at: as
 * archive_reader_next told it. Any thread may call it. */
int archive_member_read(uint8_t **data, size_t *size, const char *path, const char *name,
                        int64_t at, size_t limit, struct error *e);

#endif
