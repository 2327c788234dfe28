#ifndef CCLD_FORMATS_WEIGHTS_PICKLE_VALUES_H
#define CCLD_FORMATS_WEIGHTS_PICKLE_VALUES_H

#include "formats/weights/pickle.h"
#include "formats/weights/torch_types.h"
#include "formats/weights/weights_build.h"

/* From pickled values to single tensors. Private to formats/weights. */

struct pickle_source {
    struct weights *w;
    /* Finds the data of a torch storage by its key and element type, and their size in bytes, in
     * the byte order of the tensor's type. NULL for files that torch did not write. */
    int (*find_storage)(struct pickle_source *s, struct pickle_string key,
                        const struct torch_type *stored, const struct torch_type *type,
                        const uint8_t **data, size_t *size, struct error *e);
    void *container;    /* find_storage's own */
    size_t copy_budget; /* bytes that decoding and byte swapping may still allocate */
};

/* A tensor filled (all but its name), readable or not, a value that is not a tensor, or a damaged
 * tensor. */
enum tensor_result { TENSOR_FILLED, TENSOR_NOT_ONE, TENSOR_BAD };
/* torch_tensor.c: tensors in torch's pickles. */
enum tensor_result torch_tensor(struct pickle_source *s, const struct pickle_value *v,
                                struct weight *t, struct error *e);
/* numpy.c: numpy arrays, alone or inside jax arrays. Bytes decoded from text are kept in v. */
enum tensor_result numpy_tensor(struct pickle_source *s, struct pickle_value *v, struct weight *t,
                                struct error *e);

/* Whether v is a numpy array of numbers, of any type; a storage of torch. */
bool numpy_is_array(const struct pickle_value *v);
bool torch_is_storage(const struct pickle_value *v);

/* All searches of one file, zeroed before the first. */
struct pickle_search {
    uint32_t number;
    size_t values; /* looked at so far */
};
/* pickle_search.c: whether a storage or a numpy array is anywhere in v. Also true after
 * searches of more than four million values: the rest is not looked at. */
bool pickle_holds_tensor(struct pickle_search *all, struct pickle_value *v);

/* Reads a tuple or list of non-negative integers. false if v is anything else or too long. */
bool pickle_sizes(const struct pickle_value *v, int64_t sizes[WEIGHT_MAX_DIMS], int *count);
/* Copies n elements of `size` bytes into the arena with their bytes reversed; NULL if that exceeds
 * the budget. */
const uint8_t *byte_swapped(struct pickle_source *s, const uint8_t *data, size_t n, size_t size);

#endif
