#include "common/nets/description.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define DIMENSION_LIMIT ((int64_t)1 << 24)

void description_add(struct description *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(d->text + d->used, d->size - d->used, format, args);
    va_end(args);
    d->used += n > 0 ? (size_t)n : 0;
    if (d->used >= d->size)
        d->used = d->size - 1;
}

void description_add_list(struct description *d, const int64_t *numbers, int count)
{
    for (int i = 0; i < count; i++)
        description_add(d, "%s%" PRId64, i ? "," : "", numbers[i]);
}

const struct weight *description_find(const struct named_weights *n, int ndim, const char *format,
                                      ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const struct weight *t = names_find(n, name);
    bool usable = t && t->ndim == ndim;
    for (int i = 0; usable && i < ndim; i++)
        usable = t->shape[i] > 0 && t->shape[i] < DIMENSION_LIMIT;
    return usable ? t : NULL;
}
