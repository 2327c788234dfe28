#include "common/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *e, const char *format, ...)
{
    if (e) {
        va_list args;
        va_start(args, format);
        vsnprintf(e->text, sizeof e->text, format, args);
        va_end(args);
    }
    return -1;
}

int error_errno(struct error *e, const char *format, ...)
{
    int number = errno;
    if (e) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(e->text, sizeof e->text, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof e->text) {
            /* strerror of all current C libraries may be called by several threads. */
            snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", strerror(number));
        }
    }
    errno = number;
    return -1;
}

int error_prefix(struct error *e, const char *format, ...)
{
    if (e) {
        struct error old = *e;
        va_list args;
        va_start(args, format);
        int n = vsnprintf(e->text, sizeof e->text, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n + 3 < sizeof e->text) { /* truncates what does not fit */
            size_t room = sizeof e->text - (size_t)n - 3, length = strnlen(old.text, room);
            memcpy(e->text + n, ": ", 2);
            memcpy(e->text + n + 2, old.text, length);
            e->text[(size_t)n + 2 + length] = '\0';
        }
    }
    return -1;
}
