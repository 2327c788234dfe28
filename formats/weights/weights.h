#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/dtype.h"
#include "common/base/error.h"

/* Named tensors of a file, whatever wrote it. The format is recognised by content:
 *   safetensors
 *   torch.save's zip (PyTorch 1.6 and later) and its older pickle sequence
 *   a .zip with one of the above inside (kl-f8.zip holds model.ckpt), stored or deflated
 *   a pickle of numpy arrays (haiku), protocols 0 to 5
 * Files are mapped; tensors point into the mapping. Copied are only deflated members (to an
 * unlinked temporary file), arrays that pickle protocols below 3 hold as text, and big-endian data.
 * Pickles are read as data: nothing in them is ever called. */

#define WEIGHT_MAX_DIMS 8

/* Element [i0, i1, ...] of the row-major shape lies stride[0]*i0 + stride[1]*i1 + ... elements
 * behind data. Strides are never negative. A scalar has ndim 0 and one element. */
struct weight {
    const char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[WEIGHT_MAX_DIMS];
    int64_t stride[WEIGHT_MAX_DIMS];
    bool contiguous;  /* row-major without gaps, and data aligned to the element: usable in place */
    const void *data; /* little-endian; may be misaligned unless contiguous */
};

/* Fills stride for a row-major array and contiguous from it; data, dtype and shape are set. */
void weight_set_row_major(struct weight *t);
/* Computes contiguous from shape, stride, data and dtype. */
void weight_update_contiguous(struct weight *t);
int64_t weight_count(const struct weight *t); /* elements */
size_t weight_bytes(const struct weight *t);  /* elements * dtype size */
/* All elements in row-major order of shape: as floats, or in their own dtype. */
void weight_to_f32(const struct weight *t, float *dst);
void weight_copy(const struct weight *t, void *dst);
/* Calls f with row-major runs of elements in their own dtype (in place when contiguous, through a
 * small buffer otherwise), so that big tensors stream. Stops and returns f's value when not 0. */
int weight_stream(const struct weight *t, int (*f)(void *arg, const void *data, size_t count),
                  void *arg);

struct weights;

/* Opens and checks everything about every tensor; the data themselves are not read. */
int weights_open(struct weights **w, const char *path, struct error *e);
/* The same for bytes in memory, which must outlive w. */
int weights_open_memory(struct weights **w, const void *data, size_t size, struct error *e);
void weights_close(struct weights *w); /* NULL is fine */

/* Tensors in the order of the file. Dictionary keys and list indices on the way to a tensor are
 * joined with dots: `params.0.vi_t_image_encoder/embed.w`; a `state_dict` at the top is left out of
 * names, and what stands beside it (optimizer states) out of the list. */
int weights_count(const struct weights *w);
const struct weight *weights_at(const struct weights *w, int i);
const struct weight *weights_find(const struct weights *w, const char *name); /* NULL: none */

/* Lets the system drop the pages behind a tensor that will not be read again soon, so that passing
 * over a big file keeps little of it in memory. Only a hint: t stays readable. */
void weights_forget(const struct weights *w, const struct weight *t);

/* A string of safetensors' __metadata__; numbers and strings at the top of a pickled dictionary
 * (`epoch`, `global_step`) as text. NULL when there is none. */
const char *weights_metadata(const struct weights *w, const char *key);
int weights_metadata_count(const struct weights *w);
void weights_metadata_at(const struct weights *w, int i, const char **key, const char **value);

/* "safetensors", "torch zip", "torch legacy", "pickle", "torch zip in zip" ... */
const char *weights_format(const struct weights *w);
/* Pickled objects that are no tensors of a known kind and were left out. */
int weights_opaque_count(const struct weights *w);

#endif
