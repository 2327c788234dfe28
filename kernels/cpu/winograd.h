#ifndef CCLD_KERNELS_CPU_WINOGRAD_H
#define CCLD_KERNELS_CPU_WINOGRAD_H

#include "common/base/message.h"
#include "kernels/cpu/rows.h"

/* Maximum of the data that are transformed at a time: about what a cache shared by cores holds. */
#define WINOGRAD_FORWARD_BYTES    ((int64_t)16 << 20)
#define WINOGRAD_BY_WEIGHTS_BYTES ((int64_t)96 << 20)

/* Elements of `size` bytes from one position to the next, at least `elements`: an odd number of
 * cache lines, so that all positions of a patch fit a cache with few ways. */
static inline int64_t winograd_stride(int64_t elements, size_t size)
{
    int64_t line = 64 / (int64_t)size, lines = (elements + line - 1) / line;
    return (lines | 1) * line;
}

/* How images [n, h, w, c] are split into tiles of the output of a 3x3 convolution, padding 1. */
struct winograd_tiles {
    int out, in; /* the side of a tile, and of the input under it */
    int64_t h, w, across, per_image, count;
};

struct winograd_place {
    int64_t n, y, x; /* image, first output pixel */
};

static inline void winograd_tiles_init(struct winograd_tiles *t, const struct tensor *x, int out)
{
    t->out = out;
    t->in = out + 2;
    t->h = x->shape[1];
    t->w = x->shape[2];
    t->across = (t->w + out - 1) / out;
    t->per_image = t->across * ((t->h + out - 1) / out);
    t->count = x->shape[0] * t->per_image;
}

static inline struct winograd_place winograd_place(const struct winograd_tiles *t, int64_t tile)
{
    int64_t at = tile % t->per_image;
    return (struct winograd_place){tile / t->per_image, at / t->across * t->out,
                                   at % t->across * t->out};
}

static inline int64_t winograd_at(const struct winograd_tiles *t, int64_t n, int64_t y, int64_t x,
                                  int64_t c)
{
    bool inside = y >= 0 && y < t->h && x >= 0 && x < t->w;
    return inside ? ((n * t->h + y) * t->w + x) * c : -1;
}

/* Where channel 0 of input or output pixel i of a tile is, or -1 outside the image. */
static inline int64_t winograd_from(const struct winograd_tiles *t, struct winograd_place p, int i,
                                    int64_t c)
{
    return winograd_at(t, p.n, p.y + i / t->in - 1, p.x + i % t->in - 1, c);
}
static inline int64_t winograd_pixel(const struct winograd_tiles *t, struct winograd_place p, int i,
                                     int64_t c)
{
    return winograd_at(t, p.n, p.y + i / t->out, p.x + i % t->out, c);
}

/* Asks for the pixels of x under a tile, or with `out`, for the tile's own. */
static inline void winograd_prefetch(const struct winograd_tiles *t, struct winograd_place p,
                                     const struct tensor *x, bool out)
{
    int side = out ? t->out : t->in;
    int64_t channels = x->shape[3], bytes = channels * (int64_t)dtype_size(x->dtype);
    for (int i = 0; i < side * side; i++) {
        int64_t at = out ? winograd_pixel(t, p, i, channels) : winograd_from(t, p, i, channels);
        const char *pixel = element_of(x, at);
        for (int64_t byte = 0; at >= 0 && byte < bytes; byte += 64)
            __builtin_prefetch(pixel + byte);
    }
}

/* Pointers to the channels from `first` of the 6x6 input pixels under a tile; to zeros outside the
 * image. */
static inline void winograd_patch(const struct winograd_tiles *t, struct winograd_place p,
                                  const struct tensor *x, int64_t first, const void *zeros,
                                  const void *patch[WINOGRAD_POSITIONS])
{
    for (int i = 0; i < WINOGRAD_POSITIONS; i++) {
        int64_t at = winograd_from(t, p, i, x->shape[3]);
        patch[i] = at < 0 ? zeros : element_of(x, at + first);
    }
}

#endif
