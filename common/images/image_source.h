#ifndef CCLD_IMAGES_IMAGE_SOURCE_H
#define CCLD_IMAGES_IMAGE_SOURCE_H

#include <stdbool.h>

#include "common/images/path_source.h"

/* Image files as users name them, in arguments or a list (path_source.h), one by one:
 * - a folder, in arguments only, stands for the files below it (folder_walk.h), and links are told
 *   so that they can be counted;
 * - an archive (formats/archives/archive_reader.h) for its members, whose paths are
 *   "ARCHIVE!/MEMBER"; such a path names one member;
 * - paths that begin with "./", or have repeated slashes or components ".", are those without
 *   (path_normalize, common/base/files.h), and so are the names of members. */
struct image_source;

struct image_entry {
    const char *path;    /* borrowed until the next call */
    const char *given;   /* as the list or, of members, the archive spells it; else path */
    const char *caption; /* what is behind the tab, or NULL */
    /* The file was found in a folder or an archive: unless it is an image, nobody wanted it. */
    bool found;
    bool link;   /* a symbolic link in a folder, or a link in an archive: not followed */
    bool member; /* of the archive `archive` */
    const char *archive;
    int64_t at; /* of a member, for archive_member_read */
    /* 0, or -1 or READ_SYSTEM_FAILED if a folder, an archive or a member cannot be read, which path
     * names then. */
    int status;
    /* It is a folder, an archive or an argument that names nothing: nobody knows how many files are
     * missing. */
    bool unread;
    struct error error;
};

/* list stays the caller's and must outlive the source. captions: an entry of the list may have a
 * tab and a caption behind the path. */
struct image_source *image_source_new(struct path_source *list, bool captions);
void image_source_free(struct image_source *s); /* NULL is fine */
/* The number of files, or -1 if it cannot be known. Call it before image_source_next. */
int64_t image_source_count(const struct image_source *s);

/* Stores the next file in *entry and returns 1; 0 and -1 as path_source_next, for the list. */
int image_source_next(struct image_source *s, int wake_fd, struct image_entry *entry,
                      struct error *e);
/* Whether the file that image_source_next told last begins as an image does. A file that cannot be
 * read may be one. Fails, for members, with -1 or READ_SYSTEM_FAILED. */
int image_source_is_image(struct image_source *s, const struct image_entry *entry, bool *is_image,
                          struct error *e);
/* The content of the member that image_source_next told last; once. *data is malloc'ed and followed
 * by a zero byte. Fails with -1, also if it has more than `limit` bytes, or READ_SYSTEM_FAILED. */
int image_source_read(struct image_source *s, uint8_t **data, size_t *size, size_t limit,
                      struct error *e);

/* Splits "ARCHIVE!/MEMBER" and returns MEMBER, or NULL if the path is not of this form. *length: of
 * ARCHIVE. */
const char *image_member_of(const char *path, size_t *length);
/* The most bytes of a member that is read as an image. */
#define IMAGE_MEMBER_LIMIT ((size_t)1 << 30)

#endif
