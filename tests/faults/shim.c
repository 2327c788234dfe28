/* Preloaded into a program (LD_PRELOAD), it makes the N-th call of a kind fail:
 *
 *   FAULT=KIND:N:ERRNO   e.g. write:3:28; N 0: none, only count
 *   FAULT_PATHS=TEXT     with open: only of paths that contain TEXT, but the N-th call and all
 * later ones FAULT_LOG=FILE       gets a line when the call fails, and "KIND COUNT" when the
 * program exits
 *
 * Counted are calls from programs and libraries, not those within the C library, and writes to
 * regular files only: a pipe between threads has nobody to tell. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind {
    KIND_WRITE,
    KIND_SYNC,
    KIND_RENAME,
    KIND_MMAP,
    KIND_MALLOC,
    KIND_OPEN,
    KIND_TRUNCATE,
    KIND_READ,
    KIND_CLOSE,
    KIND_THREAD,
    KIND_NONE
};
static const char *const names[] = {
    "write", "sync", "rename", "mmap", "malloc", "open", "truncate", "read", "close", "thread",
};

static enum kind chosen = KIND_NONE;
static long failing;
static int number;
static const char *log_path, *only_paths;
static atomic_long calls;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);

/* Without calls that are counted. */
static void log_line(const char *what, long count)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%s %ld\n", what, count);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd >= 0) {
        syscall(SYS_write, fd, line, n);
        syscall(SYS_close, fd);
    }
}

static bool fails(enum kind kind)
{
    if (kind != chosen)
        return false;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (n != failing)
        return false;
    if (log_path)
        log_line("failed", n);
    errno = number;
    return true;
}

static bool open_fails(const char *path)
{
    if (!only_paths)
        return fails(KIND_OPEN);
    if (chosen != KIND_OPEN || !strstr(path, only_paths) ||
        atomic_fetch_add(&calls, 1) + 1 < failing)
        return false;
    errno = number;
    return true;
}

static bool write_fails(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fd != STDERR_FILENO && fails(KIND_WRITE);
}

__attribute__((constructor)) static void begin(void)
{
    const char *spec = getenv("FAULT");
    log_path = getenv("FAULT_LOG");
    only_paths = getenv("FAULT_PATHS");
    size_t n = spec ? strcspn(spec, ":") : 0;
    if (n == 0 || sscanf(spec + n, ":%ld:%d", &failing, &number) != 2)
        return;
    for (int k = 0; k < KIND_NONE; k++)
        if (strlen(names[k]) == n && strncmp(names[k], spec, n) == 0)
            chosen = (enum kind)k;
}

__attribute__((destructor)) static void end(void)
{
    if (chosen != KIND_NONE && log_path)
        log_line(names[chosen], atomic_load(&calls));
}

ssize_t write(int fd, const void *data, size_t size)
{
    return write_fails(fd) ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return write_fails(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return pwrite(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *items, int count)
{
    return write_fails(fd) ? -1 : syscall(SYS_writev, fd, items, count);
}

ssize_t pwritev(int fd, const struct iovec *items, int count, off_t at)
{
    return write_fails(fd) ? -1 : syscall(SYS_pwritev, fd, items, count, at, 0);
}

ssize_t pwritev64(int fd, const struct iovec *items, int count, off64_t at)
{
    return pwritev(fd, items, count, at);
}

int fsync(int fd)
{
    return fails(KIND_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails(KIND_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int msync(void *at, size_t size, int flags)
{
    return fails(KIND_SYNC) ? -1 : (int)syscall(SYS_msync, at, size, flags);
}

int rename(const char *from, const char *to)
{
    return fails(KIND_RENAME) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int symlink(const char *to, const char *from)
{
    return fails(KIND_RENAME) ? -1 : (int)syscall(SYS_symlinkat, to, AT_FDCWD, from);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails(KIND_MMAP) ? MAP_FAILED
                            : (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    return mmap(at, size, protection, flags, fd, offset);
}

void *malloc(size_t size)
{
    return fails(KIND_MALLOC) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails(KIND_MALLOC) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
    return fails(KIND_MALLOC) ? NULL : __libc_realloc(p, size);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_fails(path) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_fails(path) ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
}

/* The C library's own function of this name. */
#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))

typedef FILE *opener(const char *path, const char *mode);

FILE *fopen(const char *path, const char *mode)
{
    return open_fails(path) ? NULL : REAL(opener *, "fopen")(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    return open_fails(path) ? NULL : REAL(opener *, "fopen64")(path, mode);
}

int mkostemp(char *path, int flags)
{
    return open_fails(path) ? -1
                            : ((int (*)(char *, int))dlsym(RTLD_NEXT, "mkostemp"))(path, flags);
}

int ftruncate(int fd, off_t size)
{
    return fails(KIND_TRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return ftruncate(fd, size);
}

ssize_t read(int fd, void *data, size_t size)
{
    return fails(KIND_READ) ? -1 : syscall(SYS_read, fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    return fails(KIND_READ) ? -1 : syscall(SYS_pread64, fd, data, size, at);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at)
{
    return pread(fd, data, size, at);
}

/* As with Linux, the descriptor is closed even if this fails. */
int close(int fd)
{
    int status = (int)syscall(SYS_close, fd);
    return fails(KIND_CLOSE) ? -1 : status;
}

typedef int creator(pthread_t *out, const pthread_attr_t *how, void *(*start)(void *), void *arg);

int pthread_create(pthread_t *out, const pthread_attr_t *how, void *(*start)(void *), void *arg)
{
    return fails(KIND_THREAD) ? number : REAL(creator *, "pthread_create")(out, how, start, arg);
}
