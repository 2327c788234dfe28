#include "common/base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/support/tap.h"

static char *in_folder(const char *name)
{
    return path_join(test_folder(), name);
}

static int entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

static void put_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static bool holds(const char *path, const char *text)
{
    uint8_t *data;
    size_t size;
    struct error e;
    if (file_read(&data, &size, path, 1000, &e) < 0)
        return false;
    bool same = size == strlen(text) && !memcmp(data, text, size + 1);
    free(data);
    return same;
}

static void test_atomic(void)
{
    char *folder = in_folder("atomic"), *path = path_join(folder, "x");
    struct error e;
    struct atomic_file f;
    mkdir(folder, 0777);
    tap_ok(atomic_file_open(&f, path, &e) == 0 && !write_all(f.fd, "one", 3, &e) &&
               !file_exists(path),
           "an atomic file does not exist while it is being written");
    tap_ok(atomic_file_commit(&f, &e) == 0 && holds(path, "one") && entries(folder) == 1,
           "it is complete once committed");
    struct stat st;
    mode_t mask = umask(0);
    umask(mask);
    tap_ok(stat(path, &st) == 0 && (st.st_mode & 0777) == (0666 & ~mask),
           "its mode is the usual one");
    atomic_file_open(&f, path, &e);
    write_all(f.fd, "two", 3, &e);
    atomic_file_abandon(&f);
    tap_ok(holds(path, "one") && entries(folder) == 1, "an abandoned file leaves nothing behind");
    atomic_file_open(&f, path, &e);
    write_all(f.fd, "three", 5, &e);
    tap_ok(atomic_file_commit(&f, &e) == 0 && holds(path, "three"),
           "a commit replaces an existing file");
    tap_ok(file_write(path, "four", 4, &e) == 0 && holds(path, "four") && entries(folder) == 1,
           "a whole file is written at once");

    char *nowhere = in_folder("nosuch/x");
    tap_ok(atomic_file_open(&f, nowhere, &e) == -1 && !strcmp(e.text, strerror(ENOENT)),
           "a missing folder is reported");
    tap_ok(file_write(nowhere, "five", 4, &e) == -1 && !strcmp(e.text, strerror(ENOENT)),
           "also when a whole file is written");
    atomic_file_abandon(&f);
    tap_ok(true, "abandoning after a failed open is harmless");
    char *taken = path_join(folder, "folder");
    mkdir(taken, 0777);
    tap_ok(atomic_file_open(&f, taken, &e) == -1 && !strcmp(e.text, "is a directory") &&
               entries(folder) == 2,
           "a folder is rejected at once");
    char *late = path_join(folder, "late");
    atomic_file_open(&f, late, &e);
    mkdir(late, 0777);
    tap_ok(atomic_file_commit(&f, &e) == -1 && entries(folder) == 3,
           "a commit over a folder fails and cleans up");
    free(late);
    free(taken);
    free(nowhere);
    free(path);
    free(folder);
}

static void test_atomic_through(void)
{
    char *folder = in_folder("through"), *target = path_join(folder, "target");
    char *link = path_join(folder, "link"), *pipe = path_join(folder, "pipe"), text[8] = "";
    struct error e;
    struct atomic_file f;
    struct stat st;
    mkdir(folder, 0777);
    put_file(target, "old");
    tap_ok(symlink("target", link) == 0 && atomic_file_open(&f, link, &e) == 0 &&
               !write_all(f.fd, "new", 3, &e) && holds(target, "old") &&
               atomic_file_commit(&f, &e) == 0 && holds(target, "new") && lstat(link, &st) == 0 &&
               S_ISLNK(st.st_mode) && entries(folder) == 2,
           "a symbolic link stays and its target is replaced");
    int reader = mkfifo(pipe, 0600) == 0 ? open(pipe, O_RDONLY | O_NONBLOCK) : -1;
    tap_ok(reader >= 0 && atomic_file_open(&f, pipe, &e) == 0 && !write_all(f.fd, "hello", 5, &e) &&
               atomic_file_commit(&f, &e) == 0 && read(reader, text, sizeof text) == 5 &&
               !strcmp(text, "hello"),
           "a pipe is written directly");
    tap_ok(reader >= 0 && atomic_file_open(&f, pipe, &e) == 0, "a pipe is opened again");
    atomic_file_abandon(&f);
    tap_ok(lstat(pipe, &st) == 0 && S_ISFIFO(st.st_mode) && entries(folder) == 3,
           "it stays a pipe even when abandoned");
    close(reader);
    free(pipe);
    free(link);
    free(target);
    free(folder);
}

static void test_read_and_map(void)
{
    char *path = in_folder("text"), *empty = in_folder("empty"), *missing = in_folder("missing");
    struct error e;
    uint8_t *data;
    size_t size;
    put_file(path, "hello");
    put_file(empty, "");
    tap_ok(file_read(&data, &size, path, 5, &e) == 0 && size == 5 && !strcmp((char *)data, "hello"),
           "file_read: the whole file and a zero byte");
    free(data);
    tap_ok(file_read(&data, &size, path, 4, &e) == -1 && strstr(e.text, "larger than 4"),
           "file_read: over the limit");
    tap_ok(file_read(&data, &size, empty, 0, &e) == 0 && size == 0 && data[0] == 0,
           "file_read: empty");
    free(data);
    tap_ok(file_read(&data, &size, missing, 9, &e) == -1 && !strcmp(e.text, strerror(ENOENT)) &&
               !data,
           "file_read: missing");
    tap_ok(file_read(&data, &size, test_folder(), 9, &e) == -1 && !strcmp(e.text, "is a directory"),
           "file_read: a folder");
    tap_ok(file_read(&data, &size, "/dev/zero", 100000, &e) == -1 && strstr(e.text, "larger"),
           "file_read: an endless device stops at the limit");

    struct mapped_file m;
    tap_ok(file_map(&m, path, &e) == 0 && m.size == 5 && !memcmp(m.data, "hello", 5) &&
               !strcmp(m.path, path),
           "file_map");
    file_unmap(&m);
    tap_ok(file_map(&m, empty, &e) == 0 && m.size == 0 && !m.data, "file_map: empty");
    file_unmap(&m);
    tap_ok(file_map(&m, missing, &e) == -1 && !strcmp(e.text, strerror(ENOENT)),
           "file_map: missing");
    file_unmap(&m);
    tap_ok(file_map(&m, test_folder(), &e) == -1 && !strcmp(e.text, "is a directory"),
           "file_map: a folder");
    char *fifo = in_folder("fifo");
    mkfifo(fifo, 0666);
    tap_ok(file_map(&m, fifo, &e) == -1 && !strcmp(e.text, "not a regular file"),
           "file_map: a FIFO does not hang");
    free(fifo);
    free(missing);
    free(empty);
    free(path);
}

static void test_folders(void)
{
    struct error e;
    char *deep = in_folder("a//b/c/"), *file = in_folder("file"), *below = in_folder("file/x");
    struct stat st;
    tap_ok(make_directories(deep, &e) == 0 && stat(deep, &st) == 0 && S_ISDIR(st.st_mode),
           "make_directories: nested");
    tap_ok(make_directories(deep, &e) == 0 && make_directories("/", &e) == 0,
           "make_directories: existing");
    put_file(file, "");
    tap_ok(make_directories(below, &e) == -1 && strstr(e.text, "is not a directory"),
           "make_directories: blocked by a file");
    char *a = path_join("x", "y"), *b = path_join("x/", "y"), *c = path_join("", "y");
    tap_ok(!strcmp(a, "x/y") && !strcmp(b, "x/y") && !strcmp(c, "y"), "path_join");
    tap_ok(file_exists(file) && !file_exists(below), "file_exists");
    free(a);
    free(b);
    free(c);
    free(deep);
    free(file);
    free(below);
}

struct pipe_end {
    int fd;
    size_t got;
};

static void *drain(void *arg)
{
    struct pipe_end *p = arg;
    char buffer[4096];
    for (ssize_t n; (n = read(p->fd, buffer, sizeof buffer)) > 0;)
        p->got += (size_t)n;
    return NULL;
}

static void test_write(void)
{
    enum { SIZE = 1 << 20 };
    int fds[2];
    struct error e;
    pthread_t reader;
    char *data = calloc(1, SIZE);
    if (pipe(fds) != 0 || !data)
        exit(1);
    struct pipe_end end = {.fd = fds[0]};
    pthread_create(&reader, NULL, drain, &end);
    int result = write_all(fds[1], data, SIZE, &e);
    close(fds[1]);
    pthread_join(reader, NULL);
    close(fds[0]);
    tap_ok(result == 0 && end.got == SIZE, "write_all continues after short writes");
    free(data);
    int full = open("/dev/full", O_WRONLY);
    tap_ok(full >= 0 && write_all(full, "x", 1, &e) == -1 && !strcmp(e.text, strerror(ENOSPC)),
           "write_all: no space");
    close(full);
}

static void test_errors(void)
{
    struct error e;
    tap_ok(error_set(&e, "bad %d", 7) == -1 && !strcmp(e.text, "bad 7"), "error_set");
    tap_ok(error_prefix(&e, "while %s", "reading") == -1 && !strcmp(e.text, "while reading: bad 7"),
           "error_prefix");
    errno = EACCES;
    tap_ok(error_errno(&e, "open") == -1 && errno == EACCES && !strncmp(e.text, "open: ", 6) &&
               !strcmp(e.text + 6, strerror(EACCES)),
           "error_errno");
    tap_ok(error_set(NULL, "x") == -1 && error_errno(NULL, "x") == -1 &&
               error_prefix(NULL, "x") == -1,
           "a NULL error is accepted");
    char *longer = malloc(2000);
    memset(longer, 'y', 1999);
    longer[1999] = 0;
    error_set(&e, "%s", longer);
    tap_ok(strlen(e.text) == sizeof e.text - 1, "a long reason is truncated");
    error_prefix(&e, "prefix");
    tap_ok(strlen(e.text) == sizeof e.text - 1 && !strncmp(e.text, "prefix: yyy", 11),
           "also after a prefix");
    error_prefix(&e, "%s", longer);
    tap_ok(strlen(e.text) == sizeof e.text - 1 && e.text[0] == 'y', "also a long prefix");
    free(longer);
}

static void test_beside_program(void)
{
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
    const char *name = strrchr(program, '/') + 1;
    char *beside = find_beside_program(name, "nosuch");
    tap_ok(beside && !strcmp(beside, program), "finds a file next to the program");
    char *folder = xasprintf("%.*s", (int)(name - program) - 1, program);
    char *installed = find_beside_program(strrchr(folder, '/') + 1, "..");
    tap_ok(installed && !strncmp(installed, folder, strlen(folder)) && file_exists(installed),
           "else in the installed location");
    tap_ok(!find_beside_program("nosuch", ".."), "else finds nothing");
    free(folder);
    free(beside);
    free(installed);
}

static void *close_soon(void *fd)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    close(*(int *)fd);
    return NULL;
}

static void test_lock(void)
{
    char *folder = in_folder("locked");
    CHECK(mkdir(folder, 0777) == 0);
    int first = open(folder, O_RDONLY | O_DIRECTORY), second = open(folder, O_RDONLY | O_DIRECTORY);
    CHECK(first >= 0 && second >= 0);
    tap_ok(folder_lock(first) == 0 && folder_lock(second) == -1 && errno == EWOULDBLOCK,
           "the lock of a folder that is kept is refused");
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, close_soon, &first) == 0);
    tap_ok(folder_lock(second) == 0, "that of a program that is about to end is waited for");
    pthread_join(thread, NULL);
    close(second);
    free(folder);
}

int main(void)
{
    message_init("files");
    test_beside_program();
    test_atomic();
    test_atomic_through();
    test_read_and_map();
    test_folders();
    test_lock();
    test_write();
    test_errors();
    return tap_done();
}
