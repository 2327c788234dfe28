#ifndef CCLD_FORMATS_WEIGHTS_TORCH_WRITE_H
#define CCLD_FORMATS_WEIGHTS_TORCH_WRITE_H

#include "formats/weights/weights.h"

/* Writes what torch.save writes (since 1.6): a zip of stored members with data at multiples of 64
 * bytes, zip64 where needed. torch.load(weights_only=True) gives an OrderedDict of tensors, or with
 * state_dict a dictionary that holds one under that key, as Lightning and CompVis write it.
 * Use: declare all tensors under different names, append the data of all in that order, commit. */
struct torch_writer;

/* To a file that appears under its name only when complete. */
int torch_create(struct torch_writer **t, const char *path, bool state_dict, struct error *e);
void torch_declare(struct torch_writer *t, const char *name, enum dtype dtype, int ndim,
                   const int64_t *shape);
/* The next `size` bytes of the data; pieces need not end where tensors do. */
int torch_append(struct torch_writer *t, const void *data, size_t size, struct error *e);
/* Fails when fewer or more bytes were appended than declared. Frees t, whatever happens. */
int torch_commit(struct torch_writer *t, struct error *e);
void torch_abandon(struct torch_writer *t); /* removes what was written; NULL is fine */

#endif
