#ifndef CCLD_TESTS_DISK_CALLS_H
#define CCLD_TESTS_DISK_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"

/* Replacements for the C library's calls that change the disk, LMDB's among them, for a test that
 * includes this file: its process can be killed before the nth of them, whatever the machine's
 * speed. Nothing is synced, which does not matter when only a process dies. */
static struct {
    long calls, renames;
    long killed_at, killed_at_rename; /* 0: never */
    long rename_fails_at;             /* 0: never */
    int rename_error;
    bool cannot_exchange; /* the file system cannot exchange folders */
} disk;

static inline void disk_call(void)
{
    if (++disk.calls == disk.killed_at)
        kill(getpid(), SIGKILL);
}

/* Runs work(arg) in a process of its own that is killed before its nth call that changes the disk,
 * or before its nth rename. Returns whether it was; *good is cleared if it failed instead. */
static inline bool disk_killed(int (*work)(const void *arg), const void *arg, long at_call,
                               long at_rename, bool *good)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        disk.calls = disk.renames = 0;
        disk.killed_at = at_call;
        disk.killed_at_rename = at_rename;
        _exit(work(arg) == 0 ? 0 : 1);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    if (!WIFSIGNALED(status))
        *good &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return WIFSIGNALED(status);
}

int fsync(int fd)
{
    disk_call();
    return 0;
}

int fdatasync(int fd)
{
    disk_call();
    return 0;
}

int msync(void *data, size_t size, int flags)
{
    disk_call();
    return 0;
}

ssize_t write(int fd, const void *data, size_t size)
{
    disk_call();
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    disk_call();
    return syscall(SYS_writev, fd, parts, n);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    disk_call();
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at)
{
    disk_call();
    return syscall(SYS_pwritev, fd, parts, n, at, 0);
}

int ftruncate(int fd, off_t size)
{
    disk_call();
    return (int)syscall(SYS_ftruncate, fd, size);
}

int rename(const char *from, const char *to)
{
    disk_call();
    if (++disk.renames == disk.killed_at_rename)
        kill(getpid(), SIGKILL);
    if (disk.renames == disk.rename_fails_at) {
        errno = disk.rename_error;
        return -1;
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* musl 1.2.3 does not declare it. */
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags);
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    disk_call();
    if (disk.cannot_exchange) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
}

int symlink(const char *target, const char *path)
{
    disk_call();
    return (int)syscall(SYS_symlinkat, target, AT_FDCWD, path);
}

int unlink(const char *path)
{
    disk_call();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char *name, int flags)
{
    disk_call();
    return (int)syscall(SYS_unlinkat, folder, name, flags);
}

int rmdir(const char *path)
{
    disk_call();
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdir(const char *path, mode_t mode)
{
    disk_call();
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

#endif
