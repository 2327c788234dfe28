#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_PICKLE_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_PICKLE_H

#include "formats/weights/pickle.h"
#include "formats/weights/weights_build.h"

/* From what pickle_read gives to named tensors. Private to the readers of pickled formats. */

struct pickle_source {
    struct weights *w;
    /* Finds what a torch storage of this key and element type holds: data and its bytes. NULL for
     * files that are not torch's. */
    int (*find_storage)(struct pickle_source *s, struct pickle_string key, enum dtype dtype,
                        const uint8_t **data, size_t *size, struct error *e);
    void *container;    /* find_storage's own */
    size_t copy_budget; /* bytes that decoding and byte-swapping may still take */
};

/* Adds the tensors under root to s->w, named as formats/weights/weights.h says, and metadata. */
int pickle_flatten(struct pickle_source *s, const struct pickle_value *root, struct error *e);

/* What a value is: filled as a tensor (all but the name), something else, or a damaged tensor. */
enum tensor_result { TENSOR_FILLED, TENSOR_NOT_ONE, TENSOR_BAD };
enum tensor_result torch_tensor(struct pickle_source *s, const struct pickle_value *v,
                                struct weight *t, struct error *e);
enum tensor_result numpy_tensor(struct pickle_source *s, struct pickle_value *v, struct weight *t,
                                struct error *e);

/* "torch FloatStorage" and the like; false when there is no such dtype here. */
bool torch_storage_dtype(const struct pickle_value *global, enum dtype *dtype);
/* Bytes of an element of such a class, of those without a dtype here too; 0: an unknown class. */
size_t torch_storage_element(const struct pickle_value *global);
/* A tuple or list of whole numbers, none negative. False when v is something else or too long. */
bool pickle_sizes(const struct pickle_value *v, int64_t sizes[WEIGHT_MAX_DIMS], int *count);
/* A copy of n elements in the other byte order, from the arena; NULL over the budget. */
const uint8_t *byte_swapped(struct pickle_source *s, const uint8_t *data, size_t n, size_t size);

#endif
