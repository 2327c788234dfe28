#ifndef CCLD_KERNELS_CPU_GROUP_NORM_H
#define CCLD_KERNELS_CPU_GROUP_NORM_H

#include "kernels/device.h"

/* What both directions need of a group norm: images cut into chunks of pixels, and per image and
 * channel the numbers of z = (x - center)*scale + shift. Beside: per image and group (index
 * n*groups
 * + g) the inverse deviation and how far the true mean is from center. */
struct group_norm_plan {
    const struct group_norm_args *a;
    int64_t n, pixels, c, chunk_pixels, chunks; /* chunks of one image */
    double *sums;                               /* [n][chunks][2][c], scratch */
    float *center, *scale, *shift;              /* [n][c] */
    double *inverse, *offset;                   /* [n][groups]; offset = center - mean */
    void *memory;
    size_t granted;
};

/* Computes all of it. */
void group_norm_plan_init(struct group_norm_plan *p, struct device *d,
                          const struct group_norm_args *a);
void group_norm_plan_release(struct group_norm_plan *p, struct device *d);

/* The first pixel and the number of pixels of chunk i of all images' chunks. */
static inline int64_t group_norm_chunk(const struct group_norm_plan *p, int64_t i, int64_t *count)
{
    int64_t first = i % p->chunks * p->chunk_pixels;
    *count = p->pixels - first < p->chunk_pixels ? p->pixels - first : p->chunk_pixels;
    return i / p->chunks * p->pixels + first;
}

#endif
