#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
