#ifndef CCLD_FORMATS_IMAGES_IMAGE_LIBRARY_H
#define CCLD_FORMATS_IMAGES_IMAGE_LIBRARY_H

#include <pthread.h>

#include "common/base/error.h"

/* Libraries of single formats are loaded when the first file needs one: linked, they and what they
 * depend on would multiply the time that every program takes to start. Private to formats/images.
 *
 * A decoder lists the functions it calls in a macro FUNCTIONS(X), which declares them,
 *
 *     static struct { FUNCTIONS(IMAGE_FUNCTION) } lib;
 *     static struct image_library library = IMAGE_LIBRARY("GIF", SONAME_GIF, FUNCTIONS);
 *
 * and calls them as lib.NAME after image_library_load has returned 0. */
struct image_library {
    const char *format, *file;
    const char *const *names; /* of functions, in order; ends with NULL */
    pthread_mutex_t mutex;    /* guards what follows */
    int state;                /* 0: not tried, 1: loaded, -1: failed */
    char reason[200];
};

#define IMAGE_FUNCTION(name)      __typeof__(name) *name;
#define IMAGE_FUNCTION_NAME(name) #name,
/* soname: a macro whose value is the file's name, without quotes. */
#define IMAGE_LIBRARY(format, soname, functions)                                                   \
    {                                                                                              \
        format, IMAGE_STRING(soname), (const char *const[]){functions(IMAGE_FUNCTION_NAME) NULL},  \
            PTHREAD_MUTEX_INITIALIZER, 0, ""                                                       \
    }
#define IMAGE_STRING(soname)   IMAGE_STRING_OF(soname)
#define IMAGE_STRING_OF(value) #value

/* functions: the struct of function pointers to fill. Thread-safe. */
int image_library_load(struct image_library *l, void *functions, struct error *e);

#endif
