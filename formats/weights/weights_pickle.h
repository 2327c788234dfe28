#ifndef CCLD_FORMATS_WEIGHTS_WEIGHTS_PICKLE_H
#define CCLD_FORMATS_WEIGHTS_WEIGHTS_PICKLE_H

#include "formats/weights/pickle_values.h"

/* Adds the tensors under root to s->w, named as described in formats/weights/weights.h, and the
 * metadata. Private to formats/weights. */
int pickle_flatten(struct pickle_source *s, const struct pickle_value *root, struct error *e);

#endif
