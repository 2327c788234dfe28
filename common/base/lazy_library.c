#include "common/base/lazy_library.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Returns the new state. */
static int load(struct lazy_library *l, uint8_t *functions)
{
    void *library = dlopen(l->file, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(l->reason, sizeof l->reason, "reading %s needs %s: %s", l->format, l->file,
                 dlerror());
        return -1;
    }
    for (size_t i = 0; l->names[i]; i++) {
        void *function = dlsym(library, l->names[i]);
        if (!function) {
            snprintf(l->reason, sizeof l->reason, "reading %s: %s has no function %s", l->format,
                     l->file, l->names[i]);
            return -1;
        }
        memcpy(functions + i * sizeof function, &function, sizeof function);
    }
    return 1;
}

int lazy_library_load(struct lazy_library *l, void *functions, struct error *e)
{
    pthread_mutex_lock(&l->mutex);
    if (l->state == 0)
        l->state = load(l, functions);
    int state = l->state;
    pthread_mutex_unlock(&l->mutex);
    return state == 1 ? 0 : error_set(e, "%s", l->reason);
}
