#include "common/fit/rank_process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/base/write_all.h"

int memory_file(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        die("cannot make a file in memory: %s", strerror(errno));
    return fd;
}

int spool_stdin(void)
{
    int fd = memory_file("stdin");
    char buffer[65536];
    struct error e;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die("cannot read standard input: %s", strerror(errno));
        if (n == 0)
            return fd;
        if (write_all(fd, buffer, (size_t)n, &e) != 0)
            die("cannot keep standard input: %s", e.text);
    }
}

void open_spooled(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = open(path, O_RDONLY); /* with a position of its own */
    if (own < 0 || dup2(own, STDIN_FILENO) < 0)
        die("cannot read standard input again: %s", strerror(errno));
    close(own);
    close(fd);
}

void pass_on(int fd, const char *who)
{
    char line[1024];
    int own = fd < 0 ? -1 : dup(fd);
    FILE *f = own < 0 ? NULL : fdopen(own, "r");
    if (!f)
        return;
    rewind(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        const char *text = strstr(line, ": "); /* past the program's name */
        warn("%s: %s", who, text ? text + 2 : line);
    }
    fclose(f);
}

void share_threads(int threads, int share, int shares)
{
    int count = threads / shares + (share < threads % shares);
    threads_init(count > 0 ? count : 1);
}
