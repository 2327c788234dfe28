#ifndef CCLD_FORMATS_WEIGHTS_SAFETENSORS_H
#define CCLD_FORMATS_WEIGHTS_SAFETENSORS_H

#include "formats/weights/weights.h"

/* Writes safetensors. To read them, use weights_open or weights_open_memory
 * (formats/weights/weights.h): opening a blob in memory costs one small allocation per tensor and
 * copies no data. */

#define SAFETENSORS_HEADER_MAX 100000000 /* bytes, as in the reference implementation */

/* Declare every tensor, append the data of all tensors in the same order, then commit. The header
 * is padded with spaces so that the data start at a multiple of 64. */
struct safetensors_writer;

/* Writes to a file that appears under its name only when complete. */
int safetensors_create(struct safetensors_writer **s, const char *path, struct error *e);
/* Writes to memory; safetensors_take returns the blob. */
struct safetensors_writer *safetensors_create_memory(void);

/* Both come before any data and copy their strings. A duplicate name is an error, reported by the
 * first append. */
void safetensors_metadata(struct safetensors_writer *s, const char *key, const char *value);
void safetensors_declare(struct safetensors_writer *s, const char *name, enum dtype dtype, int ndim,
                         const int64_t *shape);

/* Appends the next `size` bytes of data; they need not end where a tensor does. */
int safetensors_append(struct safetensors_writer *s, const void *data, size_t size,
                       struct error *e);
/* Fails unless exactly the declared number of bytes was appended. Always frees s. */
int safetensors_commit(struct safetensors_writer *s, struct error *e);
/* Like commit, for memory: *data is malloc'ed. */
int safetensors_take(struct safetensors_writer *s, uint8_t **data, size_t *size, struct error *e);
void safetensors_abandon(struct safetensors_writer *s); /* removes the file; NULL is fine */

#endif
