#ifndef CCLD_KERNELS_CPU_GROUP_NORM_H
#define CCLD_KERNELS_CPU_GROUP_NORM_H

#include "kernels/device.h"

/* What the forward and backward passes share: the division of images into chunks of pixels; for
 * each image and channel, the terms of z = (x - center)*scale + shift; for each image and group
 * (index n*groups + g), the inverse deviation and center - mean. */
struct group_norm_plan {
    const struct group_norm_args *a;
    int64_t n, pixels, c, chunk_pixels, chunks; /* chunks of one image */
    double *sums;                               /* [n][chunks][2][c], scratch */
    float *center, *scale, *shift;              /* [n][c] */
    double *inverse, *offset;                   /* [n][groups]; offset = center - mean */
    void *memory;
    size_t granted;
};

/* Computes all members. */
void group_norm_plan_init(struct group_norm_plan *p, struct device *d,
                          const struct group_norm_args *a);
void group_norm_plan_release(struct group_norm_plan *p, struct device *d);

/* First pixel and pixel count of chunk i, counted over all images. */
static inline int64_t group_norm_chunk(const struct group_norm_plan *p, int64_t i, int64_t *count)
{
    int64_t first = i % p->chunks * p->chunk_pixels;
    *count = p->pixels - first < p->chunk_pixels ? p->pixels - first : p->chunk_pixels;
    return i / p->chunks * p->pixels + first;
}

#endif
