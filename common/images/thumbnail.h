#ifndef CCLD_IMAGES_THUMBNAIL_H
#define CCLD_IMAGES_THUMBNAIL_H

#include <stdint.h>

#include "formats/shards/shard_store.h"

/* The mean colors of 8x8 equal cells, rounded: [3, 8, 8], 0 to 255. image: planar RGB [3, height,
 * width] in [-1, 1]. The thumbnail of a mirrored image is the mirrored thumbnail. */
void thumbnail_make(uint8_t thumbnail[SHARD_THUMBNAIL_BYTES], const float *image, int height,
                    int width);

#endif
