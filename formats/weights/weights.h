#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/dtype.h"
#include "common/base/error.h"

/* The named tensors of a weight file. The format is detected from the content:
 *   safetensors
 *   torch.save's zip (PyTorch 1.6 and later) and the older sequence of pickles
 *   a .zip that contains one of the above (kl-f8.zip holds model.ckpt), stored or deflated
 *   a pickle of numpy arrays (haiku), protocols 0 to 5
 * Files are mapped, and tensors point into the mapping. Only three things are copied: deflated
 * members (large ones to an unlinked temporary file), arrays that pickle protocols below 3 store as
 * text, and big-endian data. Pickles are read as data: nothing in them is ever called. */

#define WEIGHT_MAX_DIMS 8

/* Extensions of weight files without the dot, in the order in which a model folder is searched;
 * ends with NULL. */
extern const char *const weights_extensions[];

/* Element [i0, i1, ...] is at offset stride[0]*i0 + stride[1]*i1 + ... elements from data. Strides
 * are never negative. A scalar has ndim 0 and one element. */
struct weight {
    const char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[WEIGHT_MAX_DIMS];
    int64_t stride[WEIGHT_MAX_DIMS];
    bool contiguous;  /* row-major without gaps, and data aligned to the element: usable in place */
    const void *data; /* little-endian; may be misaligned unless contiguous */
    /* NULL, or what the tensor is if its elements cannot be read: a type without a dtype, such as
     * "F4" or "complex128", or a kind of tensor, such as "sparse_tensor". Then dtype and data are
     * not set, and shape is for display only. */
    const char *unreadable;
};

/* The name of its dtype, or what it is instead. */
const char *weight_type(const struct weight *t);
/* Whether its elements are real numbers, which weight_to_f32 converts. */
bool weight_is_real(const struct weight *t);

/* Bytes of a row-major tensor; -1 if a size is negative or the product exceeds 2^62. */
int64_t shape_bytes(int ndim, const int64_t *shape, enum dtype dtype);
/* Sets the strides of a row-major array, and contiguous; data, dtype and shape must be set. */
void weight_set_row_major(struct weight *t);
/* Computes contiguous from shape, stride, data and dtype. */
void weight_update_contiguous(struct weight *t);
int64_t weight_count(const struct weight *t); /* elements */
size_t weight_bytes(const struct weight *t);  /* elements * dtype size */
/* Converts all elements to floats, in row-major order of shape. t must be real. */
void weight_to_f32(const struct weight *t, float *dst);
/* t must be readable. Calls f with row-major runs of elements in their own dtype (in place if
 * contiguous, otherwise through a small buffer), so that large tensors can be streamed. Stops at
 * the first nonzero value that f returns, and returns it. */
int weight_stream(const struct weight *t, int (*f)(void *arg, const void *data, size_t count),
                  void *arg);
/* "3x4", with ? for -1, or "a single number". */
void weight_print_shape(char *text, size_t size, int ndim, const int64_t *shape);

struct weights;

/* Opens a file and checks everything about every tensor except its data, which are not read.
 * Tensors that are not readable are among the others, so that whoever needs one can name it. */
int weights_open(struct weights **w, const char *path, struct error *e);
/* The same for bytes in memory, which must outlive w. */
int weights_open_memory(struct weights **w, const void *data, size_t size, struct error *e);
void weights_close(struct weights *w); /* NULL is fine */

/* Tensors in file order. A name joins with dots the dictionary keys and list indices that lead to
 * the tensor: `params.0.vi_t_image_encoder/embed.w`. If the top-level dictionary has a
 * `state_dict`, only its tensors are listed, and their names do not include it. */
int weights_count(const struct weights *w);
const struct weight *weights_at(const struct weights *w, int i);
const struct weight *weights_find(const struct weights *w, const char *name); /* NULL: none */

/* Hints that a tensor will not be read again soon, so that the system may drop its pages and a pass
 * over a large file occupies little memory. t stays readable. */
void weights_forget(const struct weights *w, const struct weight *t);

/* A string of safetensors' __metadata__, or a number or string at the top of a pickled dictionary
 * (`epoch`, `global_step`) as text. NULL if the file has none. */
const char *weights_metadata(const struct weights *w, const char *key);
int weights_metadata_count(const struct weights *w);
void weights_metadata_at(const struct weights *w, int i, const char **key, const char **value);

/* "safetensors", "torch zip", "torch legacy", "pickle", "torch zip in zip" ... */
const char *weights_format(const struct weights *w);
/* The number of pickled objects left out because they are not tensors and have none in them. */
int weights_opaque_count(const struct weights *w);

#endif
