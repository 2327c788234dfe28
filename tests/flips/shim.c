/* Preloaded into a program (LD_PRELOAD), it runs the program's main again and again, each time in a
 * new process and with another byte of a file changed, and counts how these processes end. Starting
 * a program anew for each byte takes several times as long.
 *
 *   FLIP_FILE=FILE       the file, which is as before in the end
 *   FLIP_OFFSETS=FILE    offsets of the bytes to change, one per line
 *   FLIP_CLEAN=FOLDER    removed before each run, if set
 *   FLIP_RESULT=FILE     gets "runs GOOD OTHERS" and a line for each run that a signal has ended
 *
 * The file is written whole before each run, since the program may change it, too, unless it is
 * large: then only the byte is changed. */
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE         (1 << 20)
#define SECONDS_LIMIT 120

static int (*real_main)(int, char **, char **);

static struct {
    const char *path;
    uint8_t *data;
    size_t size;
} file;

static void fail(const char *what)
{
    perror(what);
    _exit(3);
}

static void read_whole(void)
{
    struct stat st;
    int fd = open(file.path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0)
        fail(file.path);
    file.size = (size_t)st.st_size;
    file.data = malloc(file.size + 1);
    if (!file.data || read(fd, file.data, file.size) != (ssize_t)file.size)
        fail(file.path);
    close(fd);
}

static void write_file(size_t offset, uint8_t value)
{
    uint8_t before = file.data[offset];
    int fd = open(file.path, O_WRONLY);
    if (fd < 0)
        fail(file.path);
    file.data[offset] = value;
    ssize_t n = file.size > LARGE ? pwrite(fd, &value, 1, (off_t)offset) - 1 + (ssize_t)file.size
                                  : pwrite(fd, file.data, file.size, 0);
    if (n != (ssize_t)file.size || ftruncate(fd, (off_t)file.size) != 0)
        fail(file.path);
    file.data[offset] = before;
    close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st, (void)type, (void)walk;
    return remove(path);
}

static void clean(void)
{
    const char *folder = getenv("FLIP_CLEAN");
    if (folder && *folder)
        nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int run(int argc, char **argv, char **environment)
{
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        close(null);
        alarm(SECONDS_LIMIT); /* a program that hangs ends by SIGALRM */
        exit(real_main(argc, argv, environment));
    }
    int status;
    if (waitpid(child, &status, 0) != child)
        fail("waitpid");
    return status;
}

/* Read before any child is there: when a child exits, it moves the position in files that it
 * shares.
 */
static long *read_offsets(size_t *count)
{
    FILE *f = fopen(getenv("FLIP_OFFSETS"), "r");
    size_t capacity = 0;
    long *offsets = NULL, offset;
    *count = 0;
    if (!f)
        fail("FLIP_OFFSETS");
    while (fscanf(f, "%ld", &offset) == 1) {
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            offsets = realloc(offsets, capacity * sizeof *offsets);
            if (!offsets)
                fail("FLIP_OFFSETS");
        }
        offsets[(*count)++] = offset;
    }
    fclose(f);
    return offsets;
}

static int run_all(int argc, char **argv, char **environment)
{
    static const uint8_t masks[] = {1, 128, 255, 16, 2};
    size_t count;
    long *offsets = read_offsets(&count), good = 0, others = 0;
    FILE *result = fopen(getenv("FLIP_RESULT"), "w");
    if (!result)
        fail("FLIP_RESULT");
    file.path = getenv("FLIP_FILE");
    read_whole();
    for (size_t i = 0; i < count; i++) {
        long offset = offsets[i];
        if (offset < 0 || (size_t)offset >= file.size)
            continue;
        uint8_t mask = masks[offset % (long)sizeof masks];
        clean();
        write_file((size_t)offset, file.data[offset] ^ mask);
        int status = run(argc, argv, environment);
        if (WIFSIGNALED(status))
            fprintf(result, "byte %ld ^ %d: signal %d\n", offset, mask, WTERMSIG(status));
        else if (WEXITSTATUS(status) == 0)
            good++;
        else
            others++;
        write_file((size_t)offset, file.data[offset]);
    }
    fprintf(result, "runs %ld %ld\n", good, others);
    fclose(result);
    free(offsets);
    _exit(0);
}

/* The C library's, which starts main. */
int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv,
                      void (*init)(void), void (*fini)(void), void (*linker)(void), void *stack);

int __libc_start_main(int (*program)(int, char **, char **), int argc, char **argv,
                      void (*init)(void), void (*fini)(void), void (*linker)(void), void *stack)
{
    __typeof__(__libc_start_main) *start = (__typeof__(start))dlsym(RTLD_NEXT, "__libc_start_main");
    real_main = program;
    return start(getenv("FLIP_FILE") ? run_all : program, argc, argv, init, fini, linker, stack);
}
