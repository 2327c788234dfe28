#include "common/base/memory_limit.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/message.h"
#include "common/base/progress.h"

/* Address space kept for threads' stacks and for what is mapped later. */
#define MAPPED_LATER ((int64_t)64 << 20)

/* Measured: 10 MB, and at most a 30th of what was allocated. */
#define OVERHEAD       ((int64_t)24 << 20)
#define OVERHEAD_SHARE 24

static void limit(struct memory_limit *l, int64_t bytes, const char *name)
{
    if (bytes < 0)
        bytes = 0;
    if (bytes < l->bytes) {
        l->bytes = bytes;
        l->name = name;
    }
}

/* The number after `key`, at the beginning of a line, in a file; "": at its beginning. -1: the file
 * does not have it, or says "max". */
static int64_t number_in(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    char line[256];
    int64_t number = -1;
    size_t length = strlen(key);
    while (f && number < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, key, length) && sscanf(line + length, "%" SCNd64, &number) != 1)
            number = -1;
    if (f)
        fclose(f);
    return number;
}

static int64_t number_at(const char *root, const char *path, const char *key)
{
    char *file = xasprintf("%s%s", root, path);
    int64_t number = number_in(file, key);
    free(file);
    return number;
}

/* What differs between the versions of cgroups. */
struct cgroup_files {
    const char *mount, *limits[3], *usage, *cached[2];
};

static const struct cgroup_files version1 = {
    "/sys/fs/cgroup/memory",
    {"memory.limit_in_bytes", NULL},
    "memory.usage_in_bytes",
    {"total_inactive_file ", "total_active_file "},
};
static const struct cgroup_files version2 = {
    "/sys/fs/cgroup",
    {"memory.max", "memory.high", NULL},
    "memory.current",
    {"inactive_file ", "active_file "},
};

static int64_t number_of_group(const char *folder, const char *file, const char *key)
{
    char *path = xasprintf("%s/%s", folder, file);
    int64_t number = number_in(path, key);
    free(path);
    return number;
}

static void limit_by_group(struct memory_limit *l, const struct cgroup_files *files,
                           const char *folder)
{
    int64_t most = INT64_MAX, used = number_of_group(folder, files->usage, "");
    for (int i = 0; files->limits[i]; i++) {
        int64_t bytes = number_of_group(folder, files->limits[i], "");
        if (bytes >= 0 && bytes < most)
            most = bytes;
    }
    if (most == INT64_MAX || used < 0)
        return;
    for (int i = 0; i < 2; i++) {
        int64_t cached = number_of_group(folder, "memory.stat", files->cached[i]);
        used -= cached > 0 ? cached : 0;
    }
    limit(l, most - (used > 0 ? used : 0), "cgroup limit");
}

/* The group at this path and its ancestors. A container may see its own group as the root while the
 * path is the host's: then only the root exists. */
static void limit_by_groups(struct memory_limit *l, const struct cgroup_files *files,
                            const char *root, const char *path)
{
    char *folder = xasprintf("%s%s%s", root, files->mount, path);
    size_t least = strlen(root) + strlen(files->mount);
    for (;;) {
        limit_by_group(l, files, folder);
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= least || !slash)
            break;
        *slash = '\0';
    }
    free(folder);
}

/* Whether a list "cpu,memory" has the word. */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, word, length) && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

static void limit_by_cgroups(struct memory_limit *l, const char *root)
{
    char *list = xasprintf("%s/proc/self/cgroup", root), *line = NULL;
    size_t size = 0;
    FILE *f = fopen(list, "r");
    while (f && getline(&line, &size, f) >= 0) { /* "4:memory:/a/b", or "0::/a/b" for version 2 */
        char *controllers = strchr(line, ':'), *path = NULL;
        if (controllers)
            path = strchr(++controllers, ':');
        if (!path)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        if (!*controllers)
            limit_by_groups(l, &version2, root, path);
        else if (has_word(controllers, "memory"))
            limit_by_groups(l, &version1, root, path);
    }
    free(line);
    free(list);
    if (f)
        fclose(f);
}

static void limit_by_process(struct memory_limit *l, const char *root, int resource,
                             const char *used, const char *name, int64_t reserve)
{
    struct rlimit r;
    if (getrlimit(resource, &r) != 0 || r.rlim_cur >= INT64_MAX)
        return;
    int64_t kilobytes = number_at(root, "/proc/self/status", used);
    if (kilobytes >= 0)
        limit(l, (int64_t)r.rlim_cur - 1024 * kilobytes - reserve, name);
}

struct memory_limit memory_limit_left(int processes, const char *root)
{
    struct memory_limit l = {.bytes = INT64_MAX, .name = "", .processes = processes};
    int64_t kilobytes = number_at(root, "/proc/meminfo", "MemAvailable:");
    CHECK(processes > 0);
    if (kilobytes >= 0)
        limit(&l, 1024 * kilobytes, "free memory");
    limit_by_cgroups(&l, root);
    if (l.bytes != INT64_MAX)
        l.bytes /= processes;
    limit_by_process(&l, root, RLIMIT_AS, "VmSize:", "ulimit -v", MAPPED_LATER);
    limit_by_process(&l, root, RLIMIT_DATA, "VmData:", "ulimit -d", 0);
    return l;
}

int64_t memory_needed(int64_t bytes)
{
    return bytes + bytes / OVERHEAD_SHARE + OVERHEAD;
}

int memory_limit_check(const struct memory_limit *l, const char *what, int64_t needed,
                       struct error *e)
{
    char needs[32], has[32], each[48] = "";
    if (needed <= l->bytes)
        return 0;
    if (l->processes > 1)
        snprintf(each, sizeof each, " to each of %d processes", l->processes);
    return error_set(e, "%s needs %s, but %s of memory is available%s (%s)", what,
                     format_bytes(needs, (double)needed), format_bytes(has, (double)l->bytes), each,
                     l->name);
}

void memory_limit_prepare(void)
{
#ifdef M_ARENA_MAX /* each arena but the first reserves 64 MB */
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY)
        mallopt(M_ARENA_MAX, 1);
#endif
}
