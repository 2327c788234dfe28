#ifndef CCLD_FORMATS_WEIGHTS_TORCH_TYPES_H
#define CCLD_FORMATS_WEIGHTS_TORCH_TYPES_H

#include "common/base/dtype.h"
#include "formats/weights/pickle.h"

/* Element types under torch's names, for reading and writing. Private to formats/weights. */

struct torch_type {
    const char *storage; /* FloatStorage; NULL: in an UntypedStorage */
    const char *name;    /* torch.float32 */
    enum dtype dtype;    /* DTYPE_COUNT: none has its elements */
    size_t element;      /* bytes */
    size_t swap;         /* bytes that a change of byte order reverses */
};

/* Of a storage class such as "torch FloatStorage"; an untyped storage has bytes. NULL: unknown. */
const struct torch_type *torch_type_of_storage(const struct pickle_value *global);
/* Of "torch float32" and so on. NULL: unknown, or of a type that no tensor here has. */
const struct torch_type *torch_type_named(const struct pickle_value *global);
/* dtype is not DTYPE_COUNT. */
const struct torch_type *torch_type_of(enum dtype dtype);

#endif
