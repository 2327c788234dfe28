#ifndef CCLD_IMAGES_QUALITY_H
#define CCLD_IMAGES_QUALITY_H

#include <stdint.h>

/* How near a picture b comes to another, a. Both are [3, height, width] in [-1, 1]; what is outside
 * of b is clamped, as it is when a picture is written. */

/* Peak signal to noise ratio over all samples, in dB; infinity for equal pictures. */
double picture_psnr(const float *a, const float *b, int height, int width);

/* Structural similarity (Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error
 * visibility to structural similarity", 2004): of luma (Rec. 601), with an 11x11 Gaussian window of
 * sigma 1.5, K1 = 0.01, K2 = 0.03, mean over all places where the window is within the picture. A
 * picture smaller than the window gets the largest odd one that fits. */
double picture_ssim(const float *a, const float *b, int height, int width);

#endif
