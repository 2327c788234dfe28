#include "common/images/folder_walk.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/files.h"
#include "common/base/message.h"

/* A folder that has been listed. */
struct level {
    char *path;
    struct dirent **entries;
    int count, next;
};

struct folder_walk {
    struct level *levels; /* from the outermost */
    int depth, capacity;
    char *enter; /* a folder to list, or NULL */
    char *path;  /* the last one told */
};

struct folder_walk *folder_walk_new(const char *folder)
{
    struct folder_walk *w = xcalloc(1, sizeof *w);
    w->enter = xstrdup(folder);
    return w;
}

static void leave(struct folder_walk *w)
{
    struct level *l = &w->levels[--w->depth];
    for (int i = l->next; i < l->count; i++)
        free(l->entries[i]);
    free(l->entries);
    free(l->path);
}

void folder_walk_free(struct folder_walk *w)
{
    if (!w)
        return;
    while (w->depth > 0)
        leave(w);
    free(w->levels);
    free(w->enter);
    free(w->path);
    free(w);
}

static int is_shown(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* By bytes, so that the order depends on no locale. */
static int compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int enter(struct folder_walk *w, struct error *e)
{
    struct level l = {.path = w->enter};
    int status, tries = 0;
    w->enter = NULL;
    do {
        l.count = scandir(l.path, &l.entries, is_shown, compare);
        status = l.count < 0 ? read_failed(e, errno) : 0;
    } while (read_again(status, &tries));
    if (status != 0) {
        w->path = l.path;
        return status;
    }
    if (w->depth == w->capacity) {
        w->capacity = w->capacity ? 2 * w->capacity : 16;
        w->levels = xrealloc(w->levels, (size_t)w->capacity * sizeof *w->levels);
    }
    w->levels[w->depth++] = l;
    return 0;
}

/* DT_UNKNOWN where the type cannot be told; the file may have gone. */
static unsigned char type_of(const struct dirent *d, const char *path)
{
    struct stat st;
    if (d->d_type != DT_UNKNOWN)
        return d->d_type;
    if (lstat(path, &st) != 0)
        return DT_UNKNOWN;
    return S_ISREG(st.st_mode)   ? DT_REG
           : S_ISDIR(st.st_mode) ? DT_DIR
           : S_ISLNK(st.st_mode) ? DT_LNK
                                 : DT_UNKNOWN;
}

/* The path of a folder's next entry; NULL: it has no more. */
static char *take(struct level *l, unsigned char *type)
{
    if (l->next == l->count)
        return NULL;
    struct dirent *d = l->entries[l->next++];
    char *path = path_join(l->path, d->d_name);
    *type = type_of(d, path);
    free(d);
    return path;
}

int folder_walk_next(struct folder_walk *w, const char **path, struct error *e)
{
    free(w->path);
    w->path = NULL;
    for (;;) {
        int status = w->enter ? enter(w, e) : 0;
        *path = w->path;
        if (status != 0)
            return status;
        if (w->depth == 0)
            return 0;
        unsigned char type;
        char *next = take(&w->levels[w->depth - 1], &type);
        if (!next) {
            leave(w);
        } else if (type == DT_DIR) {
            w->enter = next;
        } else if (type == DT_REG || type == DT_LNK) {
            *path = w->path = next;
            return type == DT_REG ? 1 : FOLDER_WALK_LINK;
        } else {
            free(next);
        }
    }
}
