#ifndef CCLD_NETS_DESCRIPTION_H
#define CCLD_NETS_DESCRIPTION_H

#include "common/nets/names.h"

/* For the networks' own describe functions (unet_describe and so on), which network_describe calls.
 * They read names and shapes only, and accept files that lack tensors: a file that cannot be loaded
 * can still be listed. */

/* A line of text under construction; what does not fit is cut off. */
struct description {
    char *text;
    size_t size, used;
};

void description_add(struct description *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends the numbers with commas between them. */
void description_add_list(struct description *d, const int64_t *numbers, int count);

/* NULL if the tensor is missing, has another number of dimensions or a dimension that no network
 * has (2^24 and more), so that sums and products of its dimensions cannot overflow. */
const struct weight *description_find(const struct named_weights *n, int ndim, const char *format,
                                      ...) __attribute__((format(printf, 3, 4)));

#endif
