#ifndef CCLD_KERNELS_PATCHES_H
#define CCLD_KERNELS_PATCHES_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a GPU may compute a convolution by gathering the patches that its pixels see: for images
 * of at most 8x8 pixels, and as much memory. pixels: of all outputs; taps: kh * kw. */
static inline bool patches_may_be_gathered(int64_t pixels, int64_t image_pixels, int64_t taps,
                                           int64_t channels)
{
    const int64_t most = (int64_t)64 << 20; /* elements */
    return image_pixels <= 64 && taps > 1 && taps <= 9 && pixels * taps * channels <= most;
}

#endif
