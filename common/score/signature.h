#ifndef CCLD_SCORE_SIGNATURE_H
#define CCLD_SCORE_SIGNATURE_H

#include <stdint.h>

#include "formats/shards/shard_store.h"

/* What images are compared by to find copies: a record's thumbnail as a vector no longer than 1. It
 * holds the luma of 8x8 cells and, of 4x4 cells, 0.4 times Cb and Cr (of JPEG), since JPEG and
 * WebP keep little of colors at edges. */
#define SIGNATURE_WIDTH 96

void signature_make(float row[SIGNATURE_WIDTH], const uint8_t thumbnail[SHARD_THUMBNAIL_BYTES]);
/* The signature of the mirrored image is row[columns[i]]. */
void signature_mirror(int columns[SIGNATURE_WIDTH]);

/* The distance of two images in levels of 255, the root mean square over cells, to half the square
 * of the Euclidean distance of their signatures, and back. */
double signature_distance(double levels);
double signature_levels(double distance);

#endif
