/* How an image set gets its records: from a list, folders and archives, or from a run's folder. */
#include "common/data/image_set_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/text.h"
#include "common/data/captions.h"
#include "common/images/folder_walk.h"
#include "common/images/image_source.h"
#include "formats/archives/archive_reader.h"
#include "formats/shards/path_set.h"

#define LIST_LIMIT   ((size_t)1 << 40)
#define MEMBER_LIMIT ((size_t)1 << 20) /* bytes of a member with a caption */

/* at: of a member of an archive. */
static void add_record(struct image_set *s, const char *path, const char *caption, int64_t at)
{
    size_t length;
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 1024;
        s->records = xrealloc(s->records, (size_t)s->capacity * sizeof *s->records);
    }
    struct record *r = &s->records[s->count++];
    r->path = xstrdup(path);
    r->caption = caption ? xstrdup(caption) : NULL;
    r->member = image_member_of(r->path, &length);
    r->at = at;
    if (r->member && file_exists(r->path))
        r->member = NULL;
    atomic_init(&r->kept, NULL);
}

/* A list that is being read. */
struct listing {
    struct image_set *set;
    struct image_source *source;
    bool arguments; /* the list is the program's arguments */
    char *folder;   /* of relative paths */
    struct path_set seen;
    int64_t repeated, others, links;
    /* With captions: the keys of other files in folders, and of those that captions were looked for
     * in, which are not left out. */
    struct path_set other_files, caption_files;
    char *repeated_path; /* the first one */
    struct complaints *complaints;
    /* Members with one key, and images among them whose caption may be still to come. */
    struct caption_group group;
    struct pending {
        char *path;
        int64_t at;
    } * pending;
    int pending_count, pending_capacity;
};

static bool is_repeated(struct listing *l, const char *path, const char *caption)
{
    char *text = xasprintf("%s\t%s", path, caption ? caption : "");
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, text);
    free(text);
    if (path_set_add(&l->seen, key))
        return false;
    if (l->repeated++ == 0)
        l->repeated_path = xstrdup(path);
    return true;
}

static char *absolute(const struct listing *l, const char *path)
{
    return *path == '/' ? xstrdup(path) : path_join(l->folder, path);
}

static void add(struct listing *l, const char *path, const char *caption, int64_t at)
{
    char *full = absolute(l, path);
    if (!is_repeated(l, full, caption))
        add_record(l->set, full, caption, at);
    free(full);
}

static void complain_of_caption(struct listing *l, const char *path, const char *reason)
{
    complain(l->complaints, "no caption", "no caption for '%s', skipping it: %s", path, reason);
}

/* Adds the images of a group that is complete. */
static void end_group(struct listing *l, const char *next)
{
    const char *caption = caption_group_caption(&l->group, l->set->options.caption_key);
    for (int i = 0; i < l->pending_count; i++) {
        struct pending *p = &l->pending[i];
        if (caption)
            add(l, p->path, caption, p->at);
        else
            complain_of_caption(l, p->path, "none of the files with its key has one");
        free(p->path);
    }
    l->pending_count = 0;
    caption_group_begin(&l->group, next);
}

static void add_pending(struct listing *l, const struct image_entry *entry)
{
    if (l->pending_count == l->pending_capacity) {
        l->pending_capacity = l->pending_capacity ? 2 * l->pending_capacity : 4;
        l->pending = xrealloc(l->pending, (size_t)l->pending_capacity * sizeof *l->pending);
    }
    l->pending[l->pending_count++] = (struct pending){xstrdup(entry->path), entry->at};
}

/* A member that may have the caption of others. */
static int add_caption(struct listing *l, const struct image_entry *entry, struct error *e)
{
    uint8_t *data;
    size_t size;
    int status = image_source_read(l->source, &data, &size, MEMBER_LIMIT, e);
    if (status == 0) {
        caption_group_add(&l->group, entry->path, data, size, l->set->options.caption_key);
        free(data);
    }
    return status;
}

/* Counts a file that is not an image, unless a caption has come from it. */
static void leave_out(struct listing *l, const char *path)
{
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, path);
    if (path_set_has(&l->caption_files, key))
        return;
    l->others++;
    if (l->set->options.captions)
        path_set_add(&l->other_files, key);
}

/* The image may come behind the file with its caption. */
static void take_caption_file(struct listing *l, const char *path)
{
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, path);
    if (path_set_add(&l->caption_files, key) && path_set_has(&l->other_files, key))
        l->others--;
}

/* A file in a folder or an archive. Fails as add_entry. */
static int add_found(struct listing *l, const struct image_entry *entry, struct error *e)
{
    bool is_image, grouped = entry->member && l->set->options.captions;
    if (grouped && !caption_group_has(&l->group, entry->path))
        end_group(l, entry->path);
    if (grouped && caption_member(entry->path))
        return add_caption(l, entry, e);
    int status = image_source_is_image(l->source, entry, &is_image, e);
    if (status != 0)
        return status;
    if (!is_image)
        leave_out(l, entry->path);
    else if (grouped)
        add_pending(l, entry);
    else
        return 1;
    return 0;
}

/* The caption of a file that the list or a folder has. Returns 1, 0 if it has none, or -1 if the
 * system failed. */
static int find_caption(struct listing *l, const struct image_entry *entry, char **caption,
                        struct error *e)
{
    char *given = entry->caption ? xstrdup(entry->caption) : NULL, *file = NULL;
    char *trimmed = given ? caption_trim(given) : NULL;
    int status = 0;
    if (trimmed)
        *caption = xstrdup(trimmed);
    else if (given)
        status = error_set(e, "nothing after the tab");
    else if (entry->member)
        status = error_set(e, "the list has none");
    else
        status = caption_beside(caption, &file, entry->path, e);
    if (file)
        take_caption_file(l, file);
    free(file);
    free(given);
    if (status == READ_SYSTEM_FAILED) {
        error_prefix(e, "cannot read the caption of '%s'", entry->path);
        return -1;
    }
    if (status != 0)
        complain_of_caption(l, entry->path, e->text);
    return status == 0;
}

/* Refuses an argument that names nothing, or a list in the place of an image. */
static int check_argument(struct listing *l, const struct image_entry *entry, struct error *e)
{
    bool is_image = true;
    if (!l->arguments || entry->found)
        return 0;
    if (entry->status != 0)
        return error_set(e, "cannot read '%s': %s", entry->path, entry->error.text);
    if (entry->member)
        return 0;
    if (!file_exists(entry->path))
        return error_errno(e, "cannot read '%s'", entry->path);
    image_source_is_image(l->source, entry, &is_image, e);
    return is_image ? 0
                    : error_set(e, "'%s' is not an image: %s are listed on standard input",
                                entry->path, l->set->options.captions ? "pairs" : "paths");
}

/* Returns 0; -1 if the archive or the system fails. */
static int add_entry(struct listing *l, const struct image_entry *entry, struct error *e)
{
    char *caption = NULL;
    if (entry->link) {
        l->links++;
        return 0;
    }
    if (entry->unread || entry->status == READ_SYSTEM_FAILED)
        return error_set(e, "cannot read '%s': %s", entry->path, entry->error.text);
    if (entry->member && entry->status == 0 && !archive_is_seekable(entry->archive))
        return error_set(e,
                         "'%s' is compressed as a whole, but training reads images in any order: "
                         "decompress it to a .tar",
                         entry->archive);
    if (check_argument(l, entry, e) != 0)
        return -1;
    int status = entry->found ? add_found(l, entry, e) : 1;
    if (status < 0)
        return error_prefix(e, "cannot read '%s'", entry->path);
    if (status == 1 && l->set->options.captions)
        status = find_caption(l, entry, &caption, e);
    if (status == 1)
        add(l, entry->path, caption, entry->status == 0 ? entry->at : -1);
    free(caption);
    return status < 0 ? -1 : 0;
}

static struct image_set *set_new(const struct image_set_options *o)
{
    struct image_set *s = xcalloc(1, sizeof *s);
    s->options = *o;
    s->complaints = complaints_new();
    return s;
}

static int begin_order(struct image_set *s, struct error *e)
{
    int64_t holdout = s->options.holdout;
    if (s->count == 0)
        return error_set(e, "the list has no images");
    if (holdout >= s->count)
        return error_set(e, "cannot hold out %" PRId64 " of %" PRId64 " image%s", holdout, s->count,
                         plural(s->count));
    order_init(&s->order, s->count, holdout);
    s->unreadable = unreadable_new(s->count);
    return 0;
}

static int finish_open(struct image_set **out, struct image_set *s, int status, struct error *e)
{
    if (status != 0 || begin_order(s, e) != 0) {
        image_set_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

/* Says what was left out, and frees the listing. */
static void end_listing(struct listing *l)
{
    end_group(l, NULL);
    complaints_end(l->complaints, "");
    if (l->repeated > 0)
        warn("leaving out %" PRId64 " repeated %s%s of the list, the first '%s'", l->repeated,
             l->set->options.captions ? "pair" : "image", plural(l->repeated), l->repeated_path);
    if (l->others > 0)
        inform("%" PRId64 " file%s in the folders and archives left out: not an image", l->others,
               plural(l->others));
    if (l->links > 0)
        inform(FOLDER_LINKS_LEFT_OUT, l->links, plural(l->links));
    image_source_free(l->source);
    path_set_release(&l->seen);
    path_set_release(&l->other_files);
    path_set_release(&l->caption_files);
    free(l->pending);
    free(l->repeated_path);
    free(l->folder);
}

int image_set_open(struct image_set **out, struct path_source *list,
                   const struct image_set_options *o, struct error *e)
{
    struct listing l = {.folder = getcwd(NULL, 0)};
    if (!l.folder)
        return error_errno(e, "cannot get the current folder");
    l.set = set_new(o);
    l.complaints = complaints_new();
    l.arguments = list->arguments;
    l.source = image_source_new(list, o->captions);
    path_set_init(&l.seen);
    path_set_init(&l.other_files);
    path_set_init(&l.caption_files);
    struct image_entry entry;
    int got;
    while ((got = image_source_next(l.source, -1, &entry, e)) > 0)
        if (add_entry(&l, &entry, e) != 0) {
            got = -1;
            break;
        }
    end_listing(&l);
    return finish_open(out, l.set, got, e);
}

/* Finds the members of archives again: the list has only their names. */
static void find_members(struct image_set *s)
{
    char **paths = xcalloc((size_t)s->count + 1, sizeof *paths);
    struct record **members = xcalloc((size_t)s->count + 1, sizeof *members);
    int count = 0;
    for (int64_t i = 0; i < s->count; i++)
        if (s->records[i].member) {
            members[count] = &s->records[i];
            paths[count++] = s->records[i].path;
        }
    struct path_source list;
    struct image_entry entry;
    struct error e;
    path_source_arguments(&list, count, paths);
    struct image_source *source = image_source_new(&list, false);
    for (int i = 0; i < count && image_source_next(source, -1, &entry, &e) == 1; i++)
        members[i]->at = entry.status == 0 ? entry.at : -1;
    image_source_free(source);
    path_source_release(&list);
    free(members);
    free(paths);
}

/* The file contains, for each record, its path, a zero, its caption if any, and a zero. */
int image_set_reopen(struct image_set **out, const char *file, const struct image_set_options *o,
                     struct error *e)
{
    uint8_t *text;
    size_t size;
    if (file_read(&text, &size, file, LIST_LIMIT, e) != 0)
        return error_prefix(e, "cannot read '%s'", file);
    struct image_set *s = set_new(o);
    int status = 0;
    for (const char *at = (const char *)text, *end = at + size; at < end && status == 0;) {
        const char *caption = at + strlen(at) + 1;
        const char *next = caption < end ? caption + strlen(caption) + 1 : NULL;
        if (!next || next > end || !*at || (o->captions && !*caption))
            status = error_set(e, "'%s' is damaged", file);
        else
            add_record(s, at, o->captions ? caption : NULL, -1);
        at = next;
    }
    free(text);
    if (status == 0)
        find_members(s);
    return finish_open(out, s, status, e);
}

int image_set_save(const struct image_set *s, const char *file, struct error *e)
{
    char *text;
    size_t size;
    FILE *memory = xallocated(open_memstream(&text, &size));
    for (int64_t i = 0; i < s->count; i++) {
        const struct record *r = &s->records[i];
        const char *caption = r->caption ? r->caption : "";
        fwrite(r->path, 1, strlen(r->path) + 1, memory);
        fwrite(caption, 1, strlen(caption) + 1, memory);
    }
    if (fclose(memory) != 0)
        die("out of memory");
    int status = file_write(file, text, size, e);
    free(text);
    return status;
}
