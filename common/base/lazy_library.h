#ifndef CCLD_BASE_LAZY_LIBRARY_H
#define CCLD_BASE_LAZY_LIBRARY_H

#include <pthread.h>

#include "common/base/error.h"

/* Libraries of single formats are loaded when the first file needs one: linked, they and what they
 * depend on would multiply the time that every program takes to start.
 *
 * A reader lists the functions it calls in a macro FUNCTIONS(X), which declares them,
 *
 *     static struct { FUNCTIONS(LAZY_FUNCTION) } lib;
 *     static struct lazy_library library = LAZY_LIBRARY("GIF", SONAME_GIF, FUNCTIONS);
 *
 * and calls them as lib.NAME after lazy_library_load has returned 0. */
struct lazy_library {
    const char *format, *file;
    const char *const *names; /* of functions, in order; ends with NULL */
    pthread_mutex_t mutex;    /* guards what follows */
    int state;                /* 0: not tried, 1: loaded, -1: failed */
    char reason[200];
};

#define LAZY_FUNCTION(name)      __typeof__(name) *name;
#define LAZY_FUNCTION_NAME(name) #name,
/* soname: a macro whose value is the file's name, without quotes. */
#define LAZY_LIBRARY(format, soname, functions)                                                    \
    {                                                                                              \
        format, LAZY_STRING(soname), (const char *const[]){functions(LAZY_FUNCTION_NAME) NULL},    \
            PTHREAD_MUTEX_INITIALIZER, 0, ""                                                       \
    }
#define LAZY_STRING(soname)   LAZY_STRING_OF(soname)
#define LAZY_STRING_OF(value) #value

/* functions: the struct of function pointers to fill. Thread-safe. */
int lazy_library_load(struct lazy_library *l, void *functions, struct error *e);

#endif
