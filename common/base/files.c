#include "common/base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mapping_faults.h"
#include "common/base/message.h"
#include "common/base/unfinished.h"

int file_map(struct mapped_file *m, const char *path, struct error *e)
{
    *m = (struct mapped_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* opening a FIFO must not block */
    if (fd < 0)
        return error_set(e, "%s", strerror(errno));
    struct stat st;
    if (fstat(fd, &st) < 0) {
        error_set(e, "%s", strerror(errno));
        close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(e, S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file");
    }
    if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            error_set(e, "cannot map: %s", strerror(errno));
            close(fd);
            return -1;
        }
        mapping_faults_handle();
        m->data = p;
        m->size = (size_t)st.st_size;
    }
    close(fd);
    m->path = xstrdup(path);
    return 0;
}

void file_unmap(struct mapped_file *m)
{
    if (m->data)
        munmap((void *)(uintptr_t)m->data, m->size);
    free(m->path);
    *m = (struct mapped_file){0};
}

int read_failed(struct error *e, int number)
{
    error_set(e, "%s", strerror(number));
    return number == EMFILE || number == ENFILE || number == ENOMEM || number == EIO
               ? READ_SYSTEM_FAILED
               : -1;
}

bool read_again(int status, int *tries)
{
    static const long milliseconds[] = {50, 250, 1000};
    if (status != READ_SYSTEM_FAILED || *tries == sizeof milliseconds / sizeof *milliseconds)
        return false;
    long pause = milliseconds[(*tries)++];
    nanosleep(&(struct timespec){pause / 1000, pause % 1000 * 1000000}, NULL);
    return true;
}

static int read_all(uint8_t **data, size_t *size, int fd, size_t limit, size_t expected,
                    struct error *e)
{
    size_t capacity = (expected < limit ? expected : limit) + 2, n = 0;
    uint8_t *buffer = xmalloc(capacity);
    for (;;) {
        if (n + 1 == capacity) {
            capacity += capacity / 2 + 4096;
            buffer = xrealloc(buffer, capacity);
        }
        ssize_t got = read(fd, buffer + n, capacity - n - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int status = read_failed(e, errno);
            free(buffer);
            return status;
        }
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > limit) {
            free(buffer);
            return error_set(e, "larger than %zu bytes", limit);
        }
    }
    buffer[n] = 0;
    *data = buffer;
    *size = n;
    return 0;
}

static int file_read_once(uint8_t **data, size_t *size, const char *path, size_t limit,
                          struct error *e)
{
    *data = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return read_failed(e, errno);
    struct stat st;
    int status;
    if (fstat(fd, &st) < 0)
        status = read_failed(e, errno);
    else if (S_ISDIR(st.st_mode))
        status = error_set(e, "is a directory");
    else if (S_ISREG(st.st_mode) && (uintmax_t)st.st_size > limit)
        status = error_set(e, "larger than %zu bytes", limit);
    else
        status =
            read_all(data, size, fd, limit, S_ISREG(st.st_mode) ? (size_t)st.st_size : 65536, e);
    close(fd);
    return status;
}

int file_read(uint8_t **data, size_t *size, const char *path, size_t limit, struct error *e)
{
    int status, tries = 0;
    do
        status = file_read_once(data, size, path, limit, e);
    while (read_again(status, &tries));
    return status;
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return xstrdup(".");
    if (slash == path)
        return xstrdup("/");
    return xasprintf("%.*s", (int)(slash - path), path);
}

int atomic_file_open(struct atomic_file *f, const char *path, struct error *e)
{
    struct stat st;
    bool there = stat(path, &st) == 0;
    *f = (struct atomic_file){.fd = -1};
    if (there && S_ISDIR(st.st_mode))
        return error_set(e, "is a directory");
    f->path = there && S_ISREG(st.st_mode) ? realpath(path, NULL) : xstrdup(path);
    if (!f->path)
        return error_set(e, "%s", strerror(errno));
    if (there && !S_ISREG(st.st_mode)) { /* rename would replace a device by a file */
        f->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (f->fd >= 0)
            return 0;
        error_set(e, "%s", strerror(errno));
        atomic_file_abandon(f);
        return -1;
    }
    path = f->path;
    f->temporary = xasprintf("%s.XXXXXX", path);
    f->fd = unfinished_create(f->temporary);
    if (f->fd < 0) {
        error_set(e, "%s", strerror(errno));
        free(f->temporary);
        f->temporary = NULL;
        atomic_file_abandon(f);
        return -1;
    }
    mode_t mask = umask(0); /* mkostemp creates files with mode 0600, whatever the umask */
    umask(mask);
    fchmod(f->fd, 0666 & ~mask);
    return 0;
}

static void release_names(struct atomic_file *f)
{
    if (f->temporary)
        unfinished_forget(f->temporary);
    free(f->temporary);
    free(f->path);
}

int atomic_file_commit(struct atomic_file *f, struct error *e)
{
    CHECK(f->fd >= 0);
    int fd = f->fd;
    f->fd = -1;
    bool failed = fsync(fd) < 0 && errno != EINVAL && errno != EROFS;
    int number = errno;
    if (close(fd) < 0 && !failed) {
        failed = true;
        number = errno;
    }
    if (!failed && f->temporary && rename(f->temporary, f->path) < 0) {
        failed = true;
        number = errno;
    }
    if (failed) {
        atomic_file_abandon(f);
        return error_set(e, "%s", strerror(number));
    }
    char *folder = folder_of(f->path);
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd >= 0) {
        fsync(folder_fd); /* some file systems cannot; the file itself is safe */
        close(folder_fd);
    }
    free(folder);
    release_names(f);
    *f = (struct atomic_file){.fd = -1};
    return 0;
}

void atomic_file_abandon(struct atomic_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->temporary)
        unlink(f->temporary);
    release_names(f);
    *f = (struct atomic_file){.fd = -1};
}

int file_write(const char *path, const void *data, size_t size, struct error *e)
{
    struct atomic_file f;
    if (atomic_file_open(&f, path, e) != 0)
        return -1;
    if (write_all(f.fd, data, size, e) != 0) {
        atomic_file_abandon(&f);
        return -1;
    }
    return atomic_file_commit(&f, e);
}

int make_directories(const char *path, struct error *e)
{
    char *copy = xstrdup(path);
    int status = 0;
    for (char *p = copy;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char separator = *p;
        *p = '\0';
        if (p > copy && p[-1] != '/' && mkdir(copy, 0777) < 0) {
            int number = errno;
            struct stat st;
            if (stat(copy, &st) < 0)
                status = error_set(e, "%s", strerror(number));
            else if (!S_ISDIR(st.st_mode))
                status = error_set(e, "'%s' is not a directory", copy);
        }
        *p = separator;
        if (separator == '\0' || status != 0)
            break;
    }
    free(copy);
    return status;
}

char *path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder);
    bool bare = n == 0 || folder[n - 1] == '/';
    return xasprintf("%s%s%s", folder, bare ? "" : "/", name);
}

char *path_normalize(const char *given)
{
    char *path = xmalloc(strlen(given) + 2), *out = path;
    for (const char *at = given; *at;) {
        size_t length = strcspn(at, "/");
        bool last = !at[length];
        if (at == given && length == 0)
            *out++ = '/';
        else if (length > 0 && !(length == 1 && *at == '.')) {
            memmove(out, at, length);
            out += length;
            if (!last)
                *out++ = '/';
        }
        at += length + !last;
    }
    if (out > path + 1 && out[-1] == '/')
        out--;
    if (out == path)
        *out++ = '.';
    *out = 0;
    return path;
}

bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool file_is_regular(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool folder_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int folder_lock(int fd)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    int status = flock(fd, LOCK_EX | LOCK_NB);
    for (int tries = 0; status != 0 && errno == EWOULDBLOCK && tries < 100; tries++) {
        nanosleep(&pause, NULL);
        status = flock(fd, LOCK_EX | LOCK_NB);
    }
    return status;
}

bool files_are_same(const char *a, const char *b)
{
    struct stat one, two;
    return stat(a, &one) == 0 && stat(b, &two) == 0 && S_ISREG(one.st_mode) &&
           one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

static char *find_in(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    if (file_exists(path))
        return path;
    free(path);
    return NULL;
}

char *find_beside_program(const char *name, const char *installed)
{
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return NULL;
    program[length] = 0;
    *strrchr(program, '/') = 0;
    char *found = find_in(program, name);
    if (!found) {
        char *folder = path_join(program, installed);
        found = find_in(folder, name);
        free(folder);
    }
    return found;
}
