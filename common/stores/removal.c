#include "common/stores/removal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/complaints.h"
#include "common/base/escape.h"
#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/images/path_source.h"

/* One folder of the store. */
struct part {
    struct shard_remover *remover;
    int64_t first, count; /* records, counted through all folders */
};

struct removal {
    struct part *parts;
    int count;
    int64_t records;
    bool *remove; /* [records] */
    bool escaped; /* the list has paths as ccld-shards ls prints them without -0 */
    struct removal_summary *summary;
    struct complaints *complaints;
};

static void removal_close(struct removal *r)
{
    for (int i = 0; i < r->count; i++)
        shard_remover_close(r->parts[i].remover);
    complaints_end(r->complaints, "");
    free(r->parts);
    free(r->remove);
}

static int removal_open(struct removal *r, struct removal_summary *summary,
                        const struct shard_folders *folders, struct error *e)
{
    *summary = (struct removal_summary){0};
    *r = (struct removal){.summary = summary, .complaints = complaints_new()};
    r->parts = xcalloc((size_t)folders->count, sizeof *r->parts);
    for (int i = 0; i < folders->count; i++) {
        struct part *p = &r->parts[i];
        bool completed;
        if (shard_remover_open(&p->remover, folders->items[i], &completed, e) != 0) {
            removal_close(r);
            return error_prefix(e, "'%s'", folders->items[i]);
        }
        r->count++;
        summary->completed |= completed;
        p->first = r->records;
        p->count = shard_remover_count(p->remover);
        r->records += p->count;
    }
    r->remove = xcalloc((size_t)r->records + 1, sizeof *r->remove);
    return 0;
}

static int removal_run(struct removal *r, struct error *e)
{
    int status = 0;
    for (int i = 0; i < r->count && status == 0; i++)
        status = shard_remover_run(r->parts[i].remover, r->remove + r->parts[i].first, e);
    for (int64_t i = 0; i < r->records; i++)
        r->summary->removed += r->remove[i];
    r->summary->records = r->records - r->summary->removed;
    return status;
}

/* Sets *index to the record with the path, or to -1. */
static int find(struct removal *r, const char *path, int64_t *index, struct error *e)
{
    *index = -1;
    for (int i = 0; i < r->count && *index < 0; i++) {
        if (shard_remover_find(r->parts[i].remover, path, index, e) != 0)
            return -1;
        *index += *index < 0 ? 0 : r->parts[i].first;
    }
    return 0;
}

static int inspect(struct removal *r, int64_t index, char **path, struct error *reason,
                   struct error *e)
{
    int i = 0;
    while (index >= r->parts[i].first + r->parts[i].count)
        i++;
    return shard_remover_inspect(r->parts[i].remover, index - r->parts[i].first, path, reason, e);
}

/* As ccld-shards ls prints it; malloc'ed. */
static char *escaped(const char *path)
{
    char *text;
    size_t size;
    FILE *memory = xallocated(open_memstream(&text, &size));
    escape_print(memory, path);
    if (fclose(memory) != 0)
        die("out of memory");
    return text;
}

/* Fails unless `shown`, up to a tab, is how the path of the record is printed. */
static int check_path(struct removal *r, int64_t index, const char *shown, struct error *e)
{
    char *path, *text;
    struct error reason;
    if (inspect(r, index, &path, &reason, e) != 0)
        return -1;
    text = r->escaped ? escaped(path ? path : "") : xstrdup(path ? path : "");
    size_t length = strlen(text);
    bool same = strncmp(text, shown, length) == 0 && (!shown[length] || shown[length] == '\t');
    if (!same && path)
        error_set(e, "record %" PRId64 " is '%s', not '%.*s': list the records again", index, text,
                  (int)strcspn(shown, "\t"), shown);
    free(text);
    free(path);
    return same || !path ? 0 : -1;
}

/* Reads an index that ends the entry or stands before a tab, behind which *shown points then.
 * Returns false if the entry is something else. */
static bool parse_index(const char *entry, int64_t *index, const char **shown)
{
    size_t digits = strspn(entry, "0123456789");
    if (digits == 0 || digits > 18 || (entry[digits] && entry[digits] != '\t'))
        return false;
    *index = strtoll(entry, NULL, 10);
    *shown = entry[digits] ? entry + digits + 1 : NULL;
    return true;
}

static int mark(struct removal *r, const char *entry, struct error *e)
{
    int64_t index;
    const char *shown = NULL;
    if (find(r, entry, &index, e) != 0)
        return -1;
    if (index < 0 && parse_index(entry, &index, &shown)) {
        if (r->summary->completed)
            return error_set(e, "an interrupted removal has been completed now, which changed "
                                "indices: list the records again");
        index = index < r->records ? index : -1;
    }
    if (index < 0) {
        r->summary->missing++;
        complain(r->complaints, "no such record", "the store has no record '%s'", entry);
        return 0;
    }
    r->remove[index] = true;
    return shown ? check_path(r, index, shown, e) : 0;
}

struct entries {
    char **items;
    int64_t count, capacity;
};

static void entries_release(struct entries *x)
{
    for (int64_t i = 0; i < x->count; i++)
        free(x->items[i]);
    free(x->items);
}

/* The whole list, before a store is opened: what makes the list may be reading the store. */
static int read_entries(struct entries *x, char separator, struct error *e)
{
    struct path_source list;
    const char *entry;
    int got;
    path_source_stream(&list, STDIN_FILENO, separator);
    while ((got = path_source_next(&list, -1, &entry, e)) == 1) {
        if (x->count == x->capacity) {
            x->capacity = x->capacity ? 2 * x->capacity : 256;
            x->items = xrealloc(x->items, (size_t)x->capacity * sizeof *x->items);
        }
        x->items[x->count++] = xstrdup(entry);
    }
    path_source_release(&list);
    return got;
}

int removal_of_list(struct removal_summary *out, const struct shard_folders *folders,
                    char separator, struct error *e)
{
    struct removal r;
    struct entries list = {0};
    *out = (struct removal_summary){0};
    int status = read_entries(&list, separator, e);
    if (status == 0)
        status = removal_open(&r, out, folders, e);
    if (status == 0) {
        r.escaped = separator != '\0';
        for (int64_t i = 0; i < list.count && status == 0; i++)
            status = mark(&r, list.items[i], e);
        if (status == 0)
            status = removal_run(&r, e);
        removal_close(&r);
    }
    entries_release(&list);
    return status;
}

int removal_of_damaged(struct removal_summary *out, const struct shard_folders *folders,
                       struct error *e)
{
    struct removal r;
    if (removal_open(&r, out, folders, e) != 0)
        return -1;
    struct progress *progress = progress_start("checking", "records", r.records);
    int status = 0;
    for (int64_t i = 0; i < r.records && status == 0; i++) {
        char *path;
        struct error reason;
        status = inspect(&r, i, &path, &reason, e);
        if (status != 0)
            break;
        r.remove[i] = reason.text[0];
        if (reason.text[0] && path)
            warn("removing record %" PRId64 " ('%s'): %s", i, path, reason.text);
        else if (reason.text[0])
            warn("removing record %" PRId64 ": %s", i, reason.text);
        free(path);
        progress_update(progress, i + 1, NULL);
    }
    progress_finish(progress);
    if (status == 0)
        status = removal_run(&r, e);
    removal_close(&r);
    return status;
}
