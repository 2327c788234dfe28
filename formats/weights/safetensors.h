#ifndef CCLD_FORMATS_WEIGHTS_SAFETENSORS_H
#define CCLD_FORMATS_WEIGHTS_SAFETENSORS_H

#include "formats/weights/weights.h"

/* Reading is weights_open or weights_open_memory (formats/weights/weights.h): a blob in memory
 * costs one small allocation per tensor and no copy of the data. */

#define SAFETENSORS_HEADER_MAX 100000000 /* bytes, as the reference implementation has it */

/* Writing: declare every tensor, then append the data of all of them in that order, then commit.
 * The header is padded with spaces so that data start at a multiple of 64. */
struct safetensors_writer;

/* To a file that appears under its name only when complete. */
int safetensors_create(struct safetensors_writer **s, const char *path, struct error *e);
/* To memory; safetensors_take gives the blob. */
struct safetensors_writer *safetensors_create_memory(void);

/* Before any data. Strings are copied. A name given twice is an error, found at the first append.
 */
void safetensors_metadata(struct safetensors_writer *s, const char *key, const char *value);
void safetensors_declare(struct safetensors_writer *s, const char *name, enum dtype dtype, int ndim,
                         const int64_t *shape);

/* The next `size` bytes of the data; pieces need not end where tensors do. */
int safetensors_append(struct safetensors_writer *s, const void *data, size_t size,
                       struct error *e);
/* Fails when fewer or more bytes were appended than declared. Frees s, whatever happens. */
int safetensors_commit(struct safetensors_writer *s, struct error *e);
/* As commit, for memory: *data is malloc'ed. */
int safetensors_take(struct safetensors_writer *s, uint8_t **data, size_t *size, struct error *e);
void safetensors_abandon(struct safetensors_writer *s); /* removes what was written; NULL is fine */

#endif
