#ifndef CCLD_IMAGES_QUALITY_H
#define CCLD_IMAGES_QUALITY_H

/* How close an image b is to a reference image a. Both are planar RGB [3, height, width] in
 * [-1, 1]; values outside are clamped, as they are when an image is written. */

/* Peak signal-to-noise ratio over all samples, in dB; infinity if the images are equal. */
double image_psnr(const float *a, const float *b, int height, int width);

/* Structural similarity (Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error
 * visibility to structural similarity", 2004) of luma (Rec. 601): an 11x11 Gaussian window of sigma
 * 1.5, K1 = 0.01, K2 = 0.03, averaged over all positions where the window lies within the image.
 * Images smaller than the window use the largest odd window that fits. */
double image_ssim(const float *a, const float *b, int height, int width);

#endif
