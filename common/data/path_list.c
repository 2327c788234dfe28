#include "common/data/path_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/images/path_source.h"

static void add(struct path_list *l, const char *path)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 1024;
        l->keys = xrealloc(l->keys, (size_t)l->capacity * sizeof *l->keys);
    }
    uint8_t(*keys)[PATH_KEY_SIZE] = l->keys[l->count++];
    char *normal = path_normalize(path);
    path_key(keys[0], path);
    path_key(keys[1], normal);
    path_set_add(&l->set, keys[0]);
    path_set_add(&l->set, keys[1]);
    free(normal);
}

/* Whether the beginning of the file has a NUL. */
static bool has_nul(int fd)
{
    char start[65536];
    ssize_t n = pread(fd, start, sizeof start, 0);
    return n > 0 && memchr(start, 0, (size_t)n);
}

int path_list_read(struct path_list *l, const char *file, struct error *e)
{
    struct path_source list;
    const char *path;
    int got, fd = open(file, O_RDONLY | O_CLOEXEC);
    *l = (struct path_list){.file = file};
    if (fd < 0)
        return error_set(e, "cannot read '%s': %s", file, strerror(errno));
    path_set_init(&l->set);
    path_source_stream(&list, fd, has_nul(fd) ? '\0' : '\n');
    while ((got = path_source_next(&list, -1, &path, e)) == 1)
        add(l, path);
    path_source_release(&list);
    close(fd);
    if (got < 0) {
        path_list_release(l);
        return error_prefix(e, "'%s'", file);
    }
    return 0;
}

void path_list_release(struct path_list *l)
{
    path_set_release(&l->set);
    free(l->keys);
    *l = (struct path_list){0};
}

int64_t path_list_unmet(const struct path_list *l, const struct path_set *met)
{
    int64_t unmet = 0;
    for (int64_t i = 0; i < l->count; i++)
        unmet += !path_set_has(met, l->keys[i][0]) && !path_set_has(met, l->keys[i][1]);
    return unmet;
}
