/* What limits a process's memory, in folders that look like /proc and /sys/fs/cgroup. */
#include "common/base/memory_limit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/tap.h"

#define GB INT64_C(1000000000)

/* A new root with the files NAME, TEXT, ..., NULL. */
static char *root_of(const char *const *files)
{
    static int count;
    struct error e;
    char *root = xasprintf("%s/%d", test_folder(), count++);
    for (; *files; files += 2) {
        char *path = path_join(root, files[0]), *folder = xstrdup(path);
        *strrchr(folder, '/') = '\0';
        if (make_directories(folder, &e) != 0 ||
            file_write(path, files[1], strlen(files[1]), &e) != 0)
            die("%s", e.text);
        free(folder);
        free(path);
    }
    return root;
}

static void check(const char *const *files, int processes, int64_t bytes, const char *name,
                  const char *title)
{
    char *root = root_of(files);
    struct memory_limit l = memory_limit_left(processes, root);
    tap_ok(l.bytes == bytes && !strcmp(l.name, name), "%s: %" PRId64 ", '%s'", title, l.bytes,
           l.name);
    free(root);
}

#define MEMINFO                                                                                    \
    "proc/meminfo", "MemTotal:  24000000 kB\nMemAvailable:  20000000 kB\nSwapFree: 9 kB\n"
#define GROUP  "proc/self/cgroup", "0::/a/b\n"
#define CGROUP "sys/fs/cgroup/"

static void cgroups(void)
{
    check((const char *const[]){NULL}, 1, INT64_MAX, "", "nothing is known");
    check((const char *const[]){MEMINFO, NULL}, 1, 20480000000, "free memory",
          "MemAvailable; swap does not count");
    check((const char *const[]){MEMINFO, NULL}, 4, 5120000000, "free memory",
          "and four processes share it");
    check((const char *const[]){MEMINFO, GROUP, CGROUP "a/b/memory.max", "8000000000\n",
                                CGROUP "a/b/memory.current", "5000000000\n",
                                CGROUP "a/b/memory.stat",
                                "anon 1\ninactive_file 1000000000\nactive_file 2000000000\n", NULL},
          1, 6 * GB, "cgroup limit", "version 2: what is used less the file cache");
    check((const char *const[]){MEMINFO, GROUP, CGROUP "a/b/memory.max", "max\n",
                                CGROUP "a/b/memory.current", "5\n", CGROUP "a/memory.max",
                                "4000000000\n", CGROUP "a/memory.current", "1000000000\n", NULL},
          1, 3 * GB, "cgroup limit", "version 2: an ancestor's limit");
    check((const char *const[]){MEMINFO, GROUP, CGROUP "a/b/memory.max", "8000000000\n",
                                CGROUP "a/b/memory.high", "2000000000\n",
                                CGROUP "a/b/memory.current", "1000000000\n", NULL},
          1, GB, "cgroup limit", "version 2: memory.high");
    check((const char *const[]){MEMINFO, GROUP, CGROUP "memory.max", "3000000000\n",
                                CGROUP "memory.current", "1000000000\n", NULL},
          2, GB, "cgroup limit", "version 2: a container's root, shared by two processes");
    check((const char *const[]){MEMINFO, GROUP, CGROUP "a/b/memory.max", "1000000\n",
                                CGROUP "a/b/memory.current", "2000000\n", NULL},
          1, 0, "cgroup limit", "more in use than the limit: nothing is left");
    check((const char *const[]){MEMINFO, "proc/self/cgroup", "5:cpu,memory:/x\n4:pids:/y\n0::/\n",
                                CGROUP "memory/x/memory.limit_in_bytes", "6000000000\n",
                                CGROUP "memory/x/memory.usage_in_bytes", "3000000000\n",
                                CGROUP "memory/x/memory.stat",
                                "inactive_file 7\ntotal_inactive_file 1000000000\n",
                                CGROUP "memory/memory.limit_in_bytes", "9223372036854771712\n",
                                CGROUP "memory/memory.usage_in_bytes", "9\n", NULL},
          1, 4 * GB, "cgroup limit", "version 1");
}

static void own_limits(void)
{
    const char *const files[] = {MEMINFO, "proc/self/status",
                                 "Name: x\nVmSize:   1000000 kB\nVmData:    500000 kB\n", NULL};
    struct rlimit before, now;
    getrlimit(RLIMIT_AS, &before);
    now = (struct rlimit){.rlim_cur = INT64_C(200) << 30, .rlim_max = before.rlim_max};
    if (setrlimit(RLIMIT_AS, &now) != 0)
        return tap_skip("the limit on address space cannot be set", "ulimit -v");
    check(files, 1, 20480000000, "free memory", "a limit on address space that is far away");
    now.rlim_cur = INT64_C(8) << 30;
    setrlimit(RLIMIT_AS, &now);
    int64_t left = (INT64_C(8) << 30) - 1024000000 - (INT64_C(64) << 20);
    check(files, 1, left, "ulimit -v", "less what is mapped");
    check(files, 2, left, "ulimit -v", "which each process has for itself");
    setrlimit(RLIMIT_AS, &before);
    getrlimit(RLIMIT_DATA, &before);
    now = (struct rlimit){.rlim_cur = INT64_C(4) << 30, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_DATA, &now);
    check(files, 1, (INT64_C(4) << 30) - 512000000, "ulimit -d", "a limit on data");
    setrlimit(RLIMIT_DATA, &before);
}

static void messages(void)
{
    struct memory_limit l = {21300000000, "cgroup limit", 1};
    struct error e = {""};
    tap_ok(memory_limit_check(&l, "training", 21300000000, &e) == 0, "what is there suffices");
    tap_ok(memory_limit_check(&l, "training", 38200000000, &e) == -1 &&
               !strcmp(e.text, "training needs 38.2 GB, but 21.3 GB of memory is available "
                               "(cgroup limit)"),
           "and more does not: %s", e.text);
    l.processes = 2;
    tap_ok(memory_limit_check(&l, "training", 38200000000, &e) == -1 &&
               strstr(e.text, "is available to each of 2 processes (cgroup limit)"),
           "shared: %s", e.text);
}

int main(void)
{
    cgroups();
#ifndef __SANITIZE_ADDRESS__ /* which maps terabytes */
    own_limits();
#endif
    messages();
    return tap_done();
}
