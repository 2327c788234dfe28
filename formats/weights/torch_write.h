#ifndef CCLD_FORMATS_WEIGHTS_TORCH_WRITE_H
#define CCLD_FORMATS_WEIGHTS_TORCH_WRITE_H

#include "formats/weights/weights.h"

/* Writes the format of torch.save since PyTorch 1.6: a zip of stored members whose data start at
 * multiples of 64 bytes, with zip64 if needed. torch.load(weights_only=True) returns an OrderedDict
 * of tensors or, with state_dict, a dictionary that holds one under that key, as Lightning and
 * CompVis write it. Declare all tensors under distinct names, append the data of all tensors in the
 * same order, then commit. */
struct torch_writer;

/* Writes to a file that appears under its name only when complete. */
int torch_create(struct torch_writer **t, const char *path, bool state_dict, struct error *e);
void torch_declare(struct torch_writer *t, const char *name, enum dtype dtype, int ndim,
                   const int64_t *shape);
/* Appends the next `size` bytes of data; they need not end where a tensor does. */
int torch_append(struct torch_writer *t, const void *data, size_t size, struct error *e);
/* Fails unless exactly the declared number of bytes was appended. Always frees t. */
int torch_commit(struct torch_writer *t, struct error *e);
void torch_abandon(struct torch_writer *t); /* removes the file; NULL is fine */

#endif
