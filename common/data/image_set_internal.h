#ifndef CCLD_DATA_IMAGE_SET_INTERNAL_H
#define CCLD_DATA_IMAGE_SET_INTERNAL_H

#include <stdatomic.h>

#include "common/base/complaints.h"
#include "common/data/image_set.h"

/* Shared by image_set.c and image_list.c. */

struct record {
    char *path, *caption; /* caption: NULL without captions */
    /* Of a member of an archive: its name, in path, and where it is; else NULL. */
    const char *member;
    int64_t at;              /* -1: the archive has it no more */
    _Atomic(uint8_t *) kept; /* prepared pixels, 8-bit planes of R, G, B; NULL: not kept */
};

struct image_set {
    struct image_set_options options;
    struct record *records;
    int64_t count, capacity;
    struct order order;
    struct unreadable *unreadable;
    atomic_size_t kept_bytes;
    struct complaints *complaints;
};

#endif
