#ifndef CCLD_FORMATS_WEIGHTS_PICKLE_VALUES_H
#define CCLD_FORMATS_WEIGHTS_PICKLE_VALUES_H

#include "formats/weights/pickle.h"
#include "formats/weights/weights_build.h"

/* From pickled values to single tensors. Private to formats/weights. */

struct pickle_source {
    struct weights *w;
    /* Finds the data of a torch storage by its key and element type, and their size in bytes. NULL
     * for files that torch did not write. */
    int (*find_storage)(struct pickle_source *s, struct pickle_string key, enum dtype dtype,
                        const uint8_t **data, size_t *size, struct error *e);
    void *container;    /* find_storage's own */
    size_t copy_budget; /* bytes that decoding and byte swapping may still allocate */
};

/* A tensor filled (all but its name), a value that is not a tensor, or a damaged tensor. */
enum tensor_result { TENSOR_FILLED, TENSOR_NOT_ONE, TENSOR_BAD };
/* torch_tensor.c: tensors in torch's pickles. */
enum tensor_result torch_tensor(struct pickle_source *s, const struct pickle_value *v,
                                struct weight *t, struct error *e);
/* Bytes per element of a class such as "torch FloatStorage", also of those whose elements have no
 * dtype here; 0: an unknown class. */
size_t torch_storage_element(const struct pickle_value *global);
/* numpy.c: numpy arrays, alone or inside jax arrays. Bytes decoded from text are kept in v. */
enum tensor_result numpy_tensor(struct pickle_source *s, struct pickle_value *v, struct weight *t,
                                struct error *e);

/* Reads a tuple or list of non-negative integers. false if v is anything else or too long. */
bool pickle_sizes(const struct pickle_value *v, int64_t sizes[WEIGHT_MAX_DIMS], int *count);
/* Copies n elements of `size` bytes into the arena with their bytes reversed; NULL if that exceeds
 * the budget. */
const uint8_t *byte_swapped(struct pickle_source *s, const uint8_t *data, size_t n, size_t size);

#endif
