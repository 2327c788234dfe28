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
            char reason[128]; /* GNU strerror_r may ignore it and return a static string */
            snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s",
                     strerror_r(number, reason, sizeof reason));
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
