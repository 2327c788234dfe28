#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_WRITE_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_WRITE_H

#include "formats/weights/weights.h"

/* Writes tensors that were read from a file to another one, in either format and with another
 * element type. Declare all tensors, put them in the same order, then commit. */
enum weights_file_format { WEIGHTS_SAFETENSORS, WEIGHTS_TORCH };

struct weights_writer;

/* The file appears under its name only when complete. state_dict: see torch_create; ignored for
 * safetensors. */
int weights_writer_open(struct weights_writer **out, const char *path,
                        enum weights_file_format format, bool state_dict, struct error *e);
/* Before any tensor is put. A torch file has no metadata, so this does nothing for one. */
void weights_writer_metadata(struct weights_writer *w, const char *key, const char *value);
/* Declares t with elements of type dtype. dtype may differ from t's own if it is F32, F16 or BF16.
 */
void weights_writer_declare(struct weights_writer *w, const struct weight *t, enum dtype dtype);
/* Writes the data of t, converted to dtype. Adds to *overflowed the number of finite elements that
 * became infinite in F16. */
int weights_writer_put(struct weights_writer *w, const struct weight *t, enum dtype dtype,
                       int64_t *overflowed, struct error *e);
/* Fails unless all declared tensors were put. Always frees w. */
int weights_writer_commit(struct weights_writer *w, struct error *e);
void weights_writer_abandon(struct weights_writer *w); /* removes the file; NULL is fine */

#endif
