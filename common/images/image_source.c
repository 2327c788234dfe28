#include "common/images/image_source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/images/folder_walk.h"
#include "formats/archives/archive_reader.h"
#include "formats/images/image.h"

struct image_source {
    struct path_source *list;
    bool captions;
    char *given; /* the list's last path, as it spells it and normalized */
    char *path;
    struct folder_walk *walk; /* NULL: the path is no folder */
    /* The archive that is being read. It stays open behind a path that names a member: the next one
     * often is a later member. */
    struct archive_reader *archive;
    char *archive_path;
    bool all;               /* all members of the archive are wanted */
    char *member, *written; /* the path told last, if it was a member's, and as in the archive */
};

struct image_source *image_source_new(struct path_source *list, bool captions)
{
    struct image_source *s = xcalloc(1, sizeof *s);
    s->list = list;
    s->captions = captions;
    return s;
}

static void close_archive(struct image_source *s)
{
    archive_reader_close(s->archive);
    free(s->archive_path);
    s->archive = NULL;
    s->archive_path = NULL;
    s->all = false;
}

void image_source_free(struct image_source *s)
{
    if (!s)
        return;
    close_archive(s);
    folder_walk_free(s->walk);
    free(s->member);
    free(s->written);
    free(s->given);
    free(s->path);
    free(s);
}

int64_t image_source_count(const struct image_source *s)
{
    for (int i = 0; s->list->arguments && i < s->list->argument_count; i++)
        if (archive_has_name(s->list->arguments[i]) || folder_exists(s->list->arguments[i]))
            return -1;
    return path_source_count(s->list);
}

const char *image_member_of(const char *path, size_t *length)
{
    for (const char *at = path; (at = strstr(at, "!/")); at += 2) {
        char *archive = xasprintf("%.*s", (int)(at - path), path);
        bool named = archive_has_name(archive);
        free(archive);
        *length = (size_t)(at - path);
        if (named && at[2])
            return at + 2;
    }
    return NULL;
}

/* Tells that the archive cannot be read. */
static int end_archive(struct image_source *s, struct image_entry *entry, int status)
{
    entry->path = entry->given = s->path;
    entry->status = status;
    entry->unread = true;
    close_archive(s);
    return 1;
}

static void tell_member(struct image_source *s, struct image_entry *entry,
                        const struct archive_member *m)
{
    free(s->member);
    free(s->written);
    s->member = xasprintf("%s!/%s", s->archive_path, m->name);
    s->written = xasprintf("%s!/%s", s->archive_path, m->written);
    entry->path = s->member;
    entry->given = s->written;
    entry->member = true;
    entry->archive = s->archive_path;
    entry->at = m->at;
}

/* Whether a component of the path begins with a dot and is neither "." nor "..". */
static bool is_hidden(const char *name)
{
    for (const char *at = name; *at; at += strspn(at, "/")) {
        size_t length = strcspn(at, "/");
        if (*at == '.' && strspn(at, ".") < length)
            return true;
        at += length;
    }
    return false;
}

/* The next member of an archive all of which is wanted. Returns 0 at its end. */
static int next_member(struct image_source *s, struct image_entry *entry)
{
    struct archive_member m;
    int status;
    do
        status = archive_reader_next(s->archive, &m, &entry->error);
    while (status == 1 && is_hidden(m.name));
    if (status < 0) {
        free(s->path);
        s->path = xstrdup(s->archive_path);
        return end_archive(s, entry, status);
    }
    if (status == 0) {
        close_archive(s);
        return 0;
    }
    entry->found = true;
    entry->link = m.link;
    tell_member(s, entry, &m);
    return 1;
}

static int open_archive(struct image_source *s, const char *path, struct error *e)
{
    close_archive(s);
    int status = archive_reader_open(&s->archive, path, e);
    if (status == 0)
        s->archive_path = xstrdup(path);
    return status;
}

static int find_member(struct image_source *s, struct image_entry *entry, const char *name,
                       size_t length)
{
    struct archive_member m;
    char *archive = xasprintf("%.*s", (int)length, s->path);
    int status = 0;
    if (!s->archive || strcmp(s->archive_path, archive) != 0)
        status = open_archive(s, archive, &entry->error);
    if (status == 0)
        status = archive_reader_find(s->archive, name, &m, &entry->error);
    if (status == 0)
        status = error_set(&entry->error, "the archive has no such member");
    free(archive);
    if (status == 1) {
        tell_member(s, entry, &m);
    } else {
        entry->path = entry->given = s->path;
        entry->status = status;
    }
    return 1;
}

/* Tells what one path of the list names, or opens it. Returns 0 if it has no files. */
static int begin(struct image_source *s, struct image_entry *entry)
{
    size_t length;
    const char *member = image_member_of(s->path, &length);
    if (member && !file_exists(s->path))
        return find_member(s, entry, member, length);
    if (archive_has_name(s->path) && !folder_exists(s->path)) {
        int status = open_archive(s, s->path, &entry->error);
        if (status != 0)
            return end_archive(s, entry, status);
        s->all = true;
        return 0;
    }
    if (s->list->arguments && folder_exists(s->path)) {
        s->walk = folder_walk_new(s->path);
        return 0;
    }
    entry->path = s->path;
    entry->given = s->given;
    if (s->list->arguments && !file_exists(s->path)) {
        entry->status = read_failed(&entry->error, errno);
        entry->unread = true;
    }
    return 1;
}

/* Takes the next path of the list apart. Returns as path_source_next. */
static int next_of_list(struct image_source *s, int wake_fd, const char **caption, struct error *e)
{
    const char *given;
    int got = path_source_next(s->list, wake_fd, &given, e);
    if (got <= 0)
        return got;
    free(s->given);
    free(s->path);
    s->given = xstrdup(given);
    char *tab = s->captions ? strchr(s->given, '\t') : NULL;
    if (tab)
        *tab++ = 0;
    *caption = tab;
    s->path = path_normalize(s->given);
    return 1;
}

/* The next file of the folder. Returns 0 at its end, or before an archive in it, which is open
 * then.
 */
static int next_found(struct image_source *s, struct image_entry *entry)
{
    const char *path;
    int status = folder_walk_next(s->walk, &path, &entry->error);
    if (status == 0) {
        folder_walk_free(s->walk);
        s->walk = NULL;
        return 0;
    }
    free(s->path);
    s->path = xstrdup(path + (strncmp(path, "./", 2) == 0 ? 2 : 0));
    entry->path = entry->given = s->path;
    if (status < 0) {
        entry->status = status;
        entry->unread = true;
        return 1;
    }
    entry->link = status == FOLDER_WALK_LINK;
    if (!entry->link && archive_has_name(path)) {
        status = open_archive(s, s->path, &entry->error);
        s->all = status == 0;
        return status == 0 ? 0 : end_archive(s, entry, status);
    }
    entry->found = true;
    return 1;
}

int image_source_next(struct image_source *s, int wake_fd, struct image_entry *entry,
                      struct error *e)
{
    for (;;) {
        *entry = (struct image_entry){0};
        int status = 0;
        if (s->all) {
            status = next_member(s, entry);
        } else if (s->walk) {
            status = next_found(s, entry);
        } else {
            const char *caption;
            int got = next_of_list(s, wake_fd, &caption, e);
            if (got <= 0)
                return got;
            status = begin(s, entry);
            entry->caption = caption;
        }
        if (status == 1)
            return 1;
    }
}

int image_source_is_image(struct image_source *s, const struct image_entry *entry, bool *is_image,
                          struct error *e)
{
    const uint8_t *start;
    size_t size;
    if (!entry->member) {
        *is_image = image_file_is_known(entry->path) != 0;
        return 0;
    }
    int status = archive_reader_peek(s->archive, &start, &size, e);
    *is_image = status == 0 && image_is_known(start, size);
    return status;
}

int image_source_read(struct image_source *s, uint8_t **data, size_t *size, size_t limit,
                      struct error *e)
{
    return archive_reader_read(s->archive, data, size, limit, e);
}
