#include "tests/support/input_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *_Atomic faulty = "";
static atomic_int fault;
static atomic_int left;

void input_faults_set(const char *part, int number, int times)
{
    faulty = part;
    fault = number;
    atomic_store(&left, times);
}

int input_faults_left(void)
{
    return atomic_load(&left);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (atomic_load(&left) > 0 && strstr(path, faulty)) {
        atomic_fetch_sub(&left, 1);
        errno = fault;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
