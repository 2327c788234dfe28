#include "common/base/mapping_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/base/unfinished.h"

/* What follows runs in a signal handler: only async-signal-safe functions. */

/* The next line without its newline, cut off to the room for it. */
static bool read_line(int fd, char *line, size_t room)
{
    size_t length = 0;
    char c;
    ssize_t n;
    while ((n = read(fd, &c, 1)) == 1 || (n < 0 && errno == EINTR)) {
        if (n == 1 && c == '\n') {
            line[length] = 0;
            return true;
        }
        if (n == 1 && length + 1 < room)
            line[length++] = c;
    }
    return false;
}

static const char *parse_hex(const char *text, uintptr_t *value)
{
    *value = 0;
    for (;; text++)
        if (*text >= '0' && *text <= '9')
            *value = *value << 4 | (uintptr_t)(*text - '0');
        else if (*text >= 'a' && *text <= 'f')
            *value = *value << 4 | (uintptr_t)(*text - 'a' + 10);
        else
            return text;
}

/* The file in a line of /proc/self/maps, "from-to rights offset device inode      file", if it
 * contains the address; else NULL. */
static const char *file_in_line(const char *line, uintptr_t address)
{
    uintptr_t from, to;
    line = parse_hex(line, &from);
    if (*line != '-')
        return NULL;
    parse_hex(line + 1, &to);
    return address >= from && address < to ? strchr(line, '/') : NULL;
}

/* Shared memory, "/dev/zero (deleted)" or the like, for which there may have been no room. */
static bool is_shared_memory(const char *file)
{
    return strncmp(file, "/dev/", 5) == 0 && strstr(file, " (deleted)");
}

/* The kernel knows what is mapped where, whoever has mapped it. */
static const char *find_file(const void *address, char *line, size_t room)
{
    const char *file = NULL;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while (!file && fd >= 0 && read_line(fd, line, room))
        file = file_in_line(line, (uintptr_t)address);
    if (fd >= 0)
        close(fd);
    return file && !is_shared_memory(file) ? file : NULL;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    char line[4352];
    const char *file = info->si_code > 0 ? find_file(info->si_addr, line, sizeof line) : NULL;
    if (!file) {
        signal(number, SIG_DFL);
        raise(number); /* when this returns */
        return;
    }
    unfinished_remove();
    die_in_handler("'", file, "' cannot be read: it was truncated meanwhile, or its disk failed");
}

void mapping_faults_handle(void)
{
    static atomic_flag handled = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&handled))
        return;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}
