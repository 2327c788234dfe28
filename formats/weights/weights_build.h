#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_BUILD_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_BUILD_H

#include "common/base/files.h"
#include "formats/weights/arena.h"
#include "formats/weights/weights.h"
#include "formats/weights/zip.h"

/* What the readers of single formats fill; private to formats/weights*.c, safetensors.c, torch_*.c
 * and numpy.c. Everything a tensor's name and data point to lives in the mapping, in a zip's
 * inflated members or in the arena, until weights_close. */

#define WEIGHTS_NESTED_MAX 2 /* a checkpoint (itself a zip) in a zip */

struct weights {
    struct mapped_file file; /* size 0 for weights_open_memory */
    struct arena arena;
    struct zip zips[WEIGHTS_NESTED_MAX];
    int zip_count;
    struct weight *items;
    int count, capacity;
    int *by_name; /* indices into items, sorted by name */
    const char **metadata;
    int metadata_count, metadata_capacity; /* key and value alternate: two per entry */
    char format[64];
    int opaque;
};

/* Bytes in memory as the only source: recognises the format and fills w. */
int weights_read(struct weights *w, const uint8_t *data, size_t size, struct error *e);

/* Appends a zeroed tensor. name must live as long as w. */
struct weight *weights_add(struct weights *w, const char *name);
void weights_add_metadata(struct weights *w, const char *key, const char *value);

/* Elements of a shape, and bytes; -1 when a size is negative or the product exceeds 2^62. */
int64_t shape_count(int ndim, const int64_t *shape);
int64_t shape_bytes(int ndim, const int64_t *shape, enum dtype dtype);
/* Whether data_bytes (from data on) hold every element that shape and strides reach. */
bool weight_fits(const struct weight *t, size_t data_bytes);

int safetensors_read(struct weights *w, const uint8_t *data, size_t size, struct error *e);
bool safetensors_recognise(const uint8_t *data, size_t size);
int torch_zip_read(struct weights *w, struct zip *z, struct error *e);
bool torch_legacy_recognise(const uint8_t *data, size_t size);
int torch_legacy_read(struct weights *w, const uint8_t *data, size_t size, struct error *e);
int numpy_pickle_read(struct weights *w, const uint8_t *data, size_t size, struct error *e);

#endif
