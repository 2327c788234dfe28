#include "common/data/path_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/images/path_source.h"

static void add(struct path_set *set, const char *path)
{
    uint8_t key[PATH_KEY_SIZE];
    char *normal = path_normalize(path);
    path_key(key, path);
    path_set_add(set, key);
    path_key(key, normal);
    path_set_add(set, key);
    free(normal);
}

/* Whether the beginning of the file has a NUL. */
static bool has_nul(int fd)
{
    char start[65536];
    ssize_t n = pread(fd, start, sizeof start, 0);
    return n > 0 && memchr(start, 0, (size_t)n);
}

int path_list_read(struct path_set *set, int64_t *count, const char *file, struct error *e)
{
    struct path_source list;
    const char *path;
    int got, fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(e, "cannot read '%s': %s", file, strerror(errno));
    path_set_init(set);
    path_source_stream(&list, fd, has_nul(fd) ? '\0' : '\n');
    for (*count = 0; (got = path_source_next(&list, -1, &path, e)) == 1; ++*count)
        add(set, path);
    path_source_release(&list);
    close(fd);
    if (got < 0) {
        path_set_release(set);
        return error_prefix(e, "'%s'", file);
    }
    return 0;
}
