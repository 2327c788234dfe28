#ifndef CCLD_KERNELS_CPU_GROUP_NORM_H
#define CCLD_KERNELS_CPU_GROUP_NORM_H

#include "kernels/cpu/rows.h"
#include "kernels/device.h"

/* What the forward and backward passes share: the division of images into chunks of pixels; for
 * each image and channel, the terms of z = (x - center)*scale + shift; for each image and group
 * (index n*groups + g), the inverse deviation and center - mean. */
struct group_norm_plan {
    const struct group_norm_args *a;
    int64_t n, pixels, c, chunk_pixels, chunks; /* chunks of one image */
    bool known;                                 /* statistics are */
    double *sums;                               /* [n][chunks][2][c], scratch */
    const float *first;                         /* of image n: its first pixel */
    int64_t first_step;                         /* at first + n * first_step */
    float *center, *scale, *shift;              /* [n][c] */
    float *buffers;                             /* GROUP_NORM_BUFFERS per worker */
    double *inverse, *offset;                   /* [n][groups]; offset = center - mean */
    void *memory;
    size_t granted;
};

/* Computes all members; known: from a's statistics, which the forward pass has written. */
void group_norm_plan_init(struct group_norm_plan *p, struct device *d,
                          const struct group_norm_args *a, bool known);
void group_norm_plan_release(struct group_norm_plan *p, struct device *d);

/* First pixel and pixel count of chunk i, counted over all images. */
static inline int64_t group_norm_chunk(const struct group_norm_plan *p, int64_t i, int64_t *count)
{
    int64_t first = i % p->chunks * p->chunk_pixels;
    *count = p->pixels - first < p->chunk_pixels ? p->pixels - first : p->chunk_pixels;
    return i / p->chunks * p->pixels + first;
}

/* BF16 is converted some pixels at a time. */
#define GROUP_NORM_PART    16384 /* floats, about */
#define GROUP_NORM_BUFFERS 3
static inline int64_t group_norm_part(const struct group_norm_plan *p, int64_t left)
{
    int64_t pixels = p->a->x->dtype == DTYPE_F32 ? left : GROUP_NORM_PART / p->c + 1;
    return pixels < left ? pixels : left;
}
/* Floats of a worker's buffer for one part of one tensor. */
static inline int64_t group_norm_buffer(const struct group_norm_args *a)
{
    return a->x->dtype == DTYPE_F32 ? 0 : GROUP_NORM_PART + a->x->shape[3];
}
static inline float *group_norm_own(const struct group_norm_plan *p, int worker, int buffer)
{
    return p->buffers + (worker * GROUP_NORM_BUFFERS + buffer) * group_norm_buffer(p->a);
}

#endif
