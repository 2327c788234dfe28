#ifndef CCLD_TESTS_WEIGHT_COPY_H
#define CCLD_TESTS_WEIGHT_COPY_H

#include "formats/weights/weights.h"

/* Copies all elements in their own dtype, in row-major order of shape. dst: weight_bytes(t). */
void weight_copy(const struct weight *t, void *dst);

#endif
