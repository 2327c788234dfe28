#ifndef CCLD_TESTS_SPOIL_H
#define CCLD_TESTS_SPOIL_H

#include <stdint.h>

#include "formats/images/image.h"

/* For tests of what judges images; RGB of 8 bits. */

/* What a model's decoder does to an image at worst: 3x3 means, then noise of up to 10 of 255. */
void spoil(struct image *image, uint64_t seed);

/* Squares of random colors, `grain` pixels wide. */
void fill_noise(struct image *image, uint64_t seed, int grain);

#endif
