#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/shard_internal.h"

/* The number in "12", -1 for anything else. */
static int parse_part(const char *name)
{
    size_t digits = strspn(name, "0123456789");
    if (digits < 1 || digits > 5 || name[digits] || (name[0] == '0' && digits > 1))
        return -1;
    return atoi(name);
}

bool shard_folder_is_part(const char *folder)
{
    char *copy = xstrdup(folder);
    size_t length = strlen(copy);
    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = '\0';
    char *number = strrchr(copy, '/');
    bool part = number && parse_part(number + 1) >= 0;
    if (part) {
        *number = '\0';
        char *parent = strrchr(copy, '/');
        part = !strcmp(parent ? parent + 1 : copy, SHARD_PARTS);
    }
    free(copy);
    return part;
}

char *shard_part_folder(const char *folder, int part)
{
    char name[32];
    snprintf(name, sizeof name, SHARD_PARTS "/%d", part);
    return path_join(folder, name);
}

/* 1 plus the highest number of a part; 0: there are none, or there is no such folder. */
static int count_parts(const char *folder)
{
    char *parts = path_join(folder, SHARD_PARTS);
    DIR *d = opendir(parts);
    int count = 0;
    for (struct dirent *entry; d && (entry = readdir(d));) {
        int number = parse_part(entry->d_name);
        count = number >= count ? number + 1 : count;
    }
    if (d)
        closedir(d);
    free(parts);
    return count;
}

static bool has_shards(const char *folder)
{
    int first, end;
    shard_folder_range(folder, &first, &end, NULL); /* gaps are found when it is opened */
    return end > first;
}

static bool part_has_shards(const char *folder, int part)
{
    char *path = shard_part_folder(folder, part);
    bool has = has_shards(path);
    free(path);
    return has;
}

/* Sets *count to the number of parts, 0 for a single store. */
static int find_parts(int *count, const char *folder, struct error *e)
{
    int parts = count_parts(folder);
    *count = parts;
    if (parts == 0 || !has_shards(folder))
        return 0;
    *count = 0;
    for (int i = 0; i < parts; i++) {
        if (part_has_shards(folder, i) && !shard_folder_joining(folder))
            return error_set(e,
                             "it has shards of its own and in parts/%d: 'ccld-shards join' makes "
                             "one store of them",
                             i);
    }
    return 0;
}

static void add_folder(struct shard_folders *f, char *folder)
{
    f->items = xrealloc(f->items, (size_t)(f->count + 1) * sizeof *f->items);
    f->items[f->count++] = folder;
}

/* Returns how many. */
static int add_parts(struct shard_folders *f, const char *folder, int parts,
                     enum shard_parts_which which)
{
    int before = f->count;
    for (int i = 0; i < parts; i++)
        if (which == SHARD_PARTS_ALL || part_has_shards(folder, i))
            add_folder(f, shard_part_folder(folder, i));
    return f->count - before;
}

int shard_folders_expand(struct shard_folders *out, const char *const *folders, int n,
                         enum shard_parts_which which, struct error *e)
{
    *out = (struct shard_folders){0};
    for (int i = 0; i < n; i++) {
        int parts = 0;
        bool single = which == SHARD_PARTS_ALL && has_shards(folders[i]);
        if (!single && find_parts(&parts, folders[i], e) != 0) {
            shard_folders_release(out);
            return error_prefix(e, "'%s'", folders[i]);
        }
        if (add_parts(out, folders[i], parts, which) == 0)
            add_folder(out, xstrdup(folders[i]));
    }
    return 0;
}

/* The file system's name of a folder or shard. */
struct identity {
    dev_t device;
    ino_t inode;
    int folder; /* number of the folder, or of the one that the shard is in */
    int shard;  /* -1: the folder itself */
};

struct identities {
    struct identity *items;
    int count, capacity;
};

/* A file that does not exist is reported when it is opened. */
static void identify(struct identities *all, const char *path, int folder, int shard)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return;
    if (all->count == all->capacity) {
        all->capacity = all->capacity ? 2 * all->capacity : 64;
        all->items = xrealloc(all->items, (size_t)all->capacity * sizeof *all->items);
    }
    all->items[all->count++] = (struct identity){st.st_dev, st.st_ino, folder, shard};
}

static void identify_store(struct identities *all, const char *folder, int number)
{
    int first, end;
    identify(all, folder, number, -1);
    if (shard_folder_range(folder, &first, &end, NULL) != 0)
        return;
    for (int i = first; i < end; i++) {
        char name[24];
        shard_name(name, i);
        char *path = path_join(folder, name);
        identify(all, path, number, i);
        free(path);
    }
}

static bool is_same(const struct identity *x, const struct identity *y)
{
    return x->device == y->device && x->inode == y->inode;
}

/* The same ones side by side, in the order in which they were given. */
static int compare_identities(const void *left, const void *right)
{
    const struct identity *x = left, *y = right;
    if (!is_same(x, y)) {
        bool less = x->device < y->device || (x->device == y->device && x->inode < y->inode);
        return less ? -1 : 1;
    }
    if (x->folder != y->folder)
        return x->folder < y->folder ? -1 : 1;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

static char *identity_path(const struct shard_folders *f, const struct identity *x)
{
    char name[24];
    if (x->shard < 0)
        return xstrdup(f->items[x->folder]);
    shard_name(name, x->shard);
    return path_join(f->items[x->folder], name);
}

int shard_folders_check_distinct(const struct shard_folders *f, struct error *e)
{
    struct identities all = {0};
    for (int i = 0; i < f->count; i++)
        identify_store(&all, f->items[i], i);
    if (all.count > 0)
        qsort(all.items, (size_t)all.count, sizeof *all.items, compare_identities);
    const struct identity *found = NULL; /* a store rather than its shards */
    for (int i = 1; i < all.count; i++)
        if (is_same(&all.items[i - 1], &all.items[i]) && (!found || all.items[i].shard < 0))
            found = &all.items[i - 1];
    if (!found) {
        free(all.items);
        return 0;
    }
    char *one = identity_path(f, found), *other = identity_path(f, found + 1);
    if (strcmp(one, other) == 0)
        error_set(e, "store '%s' is given twice", one);
    else
        error_set(e, "'%s' and '%s' are the same %s", one, other,
                  found->shard < 0 ? "store" : "shard");
    free(one);
    free(other);
    free(all.items);
    return -1;
}

void shard_folders_release(struct shard_folders *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->items[i]);
    free(f->items);
    *f = (struct shard_folders){0};
}

/* The last one first: however this ends, the number of parts is known. */
static int create_parts(const char *folder, int count, struct error *e)
{
    for (int i = count - 1; i >= 0; i--) {
        char *path = shard_part_folder(folder, i);
        int status = make_directories(path, e);
        free(path);
        if (status != 0)
            return -1;
    }
    return 0;
}

static int check_entries(const char *folder, bool new_parts, struct error *e)
{
    int shards;
    char *foreign;
    int status = shard_folder_list(folder, &shards, &foreign, e);
    if (status == 0 && shards > 0 && new_parts)
        status = error_set(e, "it is a single store, not one in parts: omit --devices, or name "
                              "another folder");
    else if (status == 0 && shards == 0 && foreign)
        status = error_set(e, SHARD_FOLDER_FOREIGN, foreign);
    free(foreign);
    return status;
}

static int find_or_create_parts(struct shard_parts *p, const char *folder, int wanted,
                                struct error *e)
{
    if (shard_folder_joining(folder))
        return error_set(e, SHARD_JOIN_INTERRUPTED);
    if (find_parts(&p->count, folder, e) != 0 ||
        check_entries(folder, p->count == 0 && wanted > 0, e) != 0)
        return -1;
    p->count = p->count > 0 ? p->count : wanted;
    return create_parts(folder, p->count, e);
}

int shard_parts_open(struct shard_parts *p, const char *folder, int wanted, struct error *e)
{
    *p = (struct shard_parts){.fd = -1};
    if (wanted == 0 && count_parts(folder) == 0)
        return 0;
    int status = make_directories(folder, e);
    if (status == 0)
        status = shard_folder_lock(&p->fd, folder, e);
    if (status == 0)
        status = find_or_create_parts(p, folder, wanted, e);
    if (status != 0 || p->count == 0)
        shard_parts_close(p);
    return status;
}

void shard_parts_close(struct shard_parts *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}
