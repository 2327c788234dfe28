#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_BUILD_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_BUILD_H

#include "common/base/files.h"
#include "formats/weights/arena.h"
#include "formats/weights/weights.h"
#include "formats/weights/zip.h"

/* What the readers fill. Private to formats/weights. Everything that a tensor's name and data point
 * to lives in the mapping, in a zip's inflated members or in the arena until weights_close. */

#define WEIGHTS_NESTED_MAX 2 /* a checkpoint (itself a zip) inside a zip */

struct weights {
    struct mapped_file file; /* size 0 for weights_open_memory */
    struct arena arena;
    struct zip zips[WEIGHTS_NESTED_MAX];
    int zip_count;
    struct weight *items;
    int count, capacity;
    int *by_name; /* indices into items, sorted by name */
    const char **metadata;
    int metadata_count, metadata_capacity; /* entries; a key and a value each */
    char format[64];
    int opaque;
};

/* Appends a zeroed tensor. name must live as long as w. */
struct weight *weights_add(struct weights *w, const char *name);
/* key and value must live as long as w. */
void weights_add_metadata(struct weights *w, const char *key, const char *value);

/* Makes t one that cannot be read, of this type or kind, which must live as long as w. false: its
 * shape, which is kept, has more elements than can be. */
bool weight_set_unreadable(struct weight *t, const char *type);

/* Whether data_bytes, starting at data, cover every element that shape and strides reach. */
bool weight_fits(const struct weight *t, size_t data_bytes);

#endif
