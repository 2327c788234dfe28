#include "common/base/mute.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#ifdef __GLIBC__

static _Thread_local bool muted;

static ssize_t pass_on(void *cookie, const char *text, size_t size)
{
    return muted ? (ssize_t)size : write(STDERR_FILENO, text, size);
}

/* glibc's stderr is a variable, "which you can set" (manual, 12.2); libraries share it. */
static void install(void)
{
    FILE *f = fopencookie(NULL, "w", (cookie_io_functions_t){.write = pass_on});
    if (!f)
        return;
    setvbuf(f, NULL, _IONBF, 0);
    stderr = f;
}

void stderr_mute(bool on)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    muted = on;
}

#else

void stderr_mute(bool on)
{
}

#endif
