#ifndef CCLD_KERNELS_CPU_WINOGRAD_H
#define CCLD_KERNELS_CPU_WINOGRAD_H

#include "common/base/message.h"
#include "kernels/cpu/isa.h"

/* Maximum of the data that are transformed at a time. */
#define WINOGRAD_FORWARD_BYTES    ((int64_t)64 << 20)
#define WINOGRAD_BY_WEIGHTS_BYTES ((int64_t)96 << 20)

/* How images [n, h, w, c] are split into 4x4 tiles of the output of a 3x3 convolution, padding 1.
 */
struct winograd_tiles {
    int64_t h, w, across, per_image, count;
};

struct winograd_place {
    int64_t n, y, x; /* image, first output pixel */
};

static inline void winograd_tiles_init(struct winograd_tiles *t, const struct tensor *x)
{
    t->h = x->shape[1];
    t->w = x->shape[2];
    t->across = (t->w + WINOGRAD_OUT - 1) / WINOGRAD_OUT;
    t->per_image = t->across * ((t->h + WINOGRAD_OUT - 1) / WINOGRAD_OUT);
    t->count = x->shape[0] * t->per_image;
}

static inline struct winograd_place winograd_place(const struct winograd_tiles *t, int64_t tile)
{
    int64_t at = tile % t->per_image;
    return (struct winograd_place){tile / t->per_image, at / t->across * WINOGRAD_OUT,
                                   at % t->across * WINOGRAD_OUT};
}

/* Pointers to channel 0 of the 6x6 input pixels under a tile; to zeros outside the image. */
static inline void winograd_patch(const struct winograd_tiles *t, struct winograd_place p,
                                  const float *x, int64_t c, const float *zeros,
                                  const float *patch[WINOGRAD_POSITIONS])
{
    for (int i = 0; i < WINOGRAD_POSITIONS; i++) {
        int64_t py = p.y + i / WINOGRAD_IN - 1, px = p.x + i % WINOGRAD_IN - 1;
        bool inside = py >= 0 && py < t->h && px >= 0 && px < t->w;
        patch[i] = inside ? x + ((p.n * t->h + py) * t->w + px) * c : zeros;
    }
}

/* Channel 0 of output pixel i of a tile, or NULL beyond the edge. */
static inline float *winograd_pixel(const struct winograd_tiles *t, struct winograd_place p, int i,
                                    float *y, int64_t c)
{
    int64_t py = p.y + i / WINOGRAD_OUT, px = p.x + i % WINOGRAD_OUT;
    return py < t->h && px < t->w ? y + ((p.n * t->h + py) * t->w + px) * c : NULL;
}

#endif
