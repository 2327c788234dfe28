#ifndef CCLD_TESTS_OKLAB_H
#define CCLD_TESTS_OKLAB_H

/* Perceptual color space (B. Ottosson, "A perceptual color space for image processing", 2020): a
 * distance of 0.02 is just visible side by side; black and white are 1 apart. */
struct oklab {
    float l, a, b;
};

struct oklab oklab_from_srgb(const float rgb[3]); /* each 0 to 1 */
float oklab_distance(struct oklab x, struct oklab y);

#endif
