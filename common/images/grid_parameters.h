#ifndef CCLD_IMAGES_GRID_PARAMETERS_H
#define CCLD_IMAGES_GRID_PARAMETERS_H

#include <stdbool.h>

#include "common/images/grid.h"

/* The text of the PNG chunk `parameters` that web UIs read: the prompt, then one line like "Steps:
 * 50, Sampler: PLMS, CFG scale: 3, Seed: 0, Size: 256x256, Model: name, Schedule: spliced", with
 * what else is known of the images, of a single image its combined prompts and its index. Different
 * prompts appear on a line each; other fields list every different value once. A value with a
 * comma, colon, quote or line break is written as a JSON string, as web UIs do. malloc'ed; NULL if
 * the images have no metadata.
 */
char *grid_parameters(const struct grid *g);

/* The remarks of an image from this text, as ccld-plms writes them to a stream. Returns false,
 * without remarks, unless grid_parameters would write exactly this text for an image of
 * ccld-plms with this size: other programs' texts are not understood. Remarks are the caller's. */
bool grid_parameters_read(struct image_remarks *remarks, const char *text,
                          const struct image *image);

#endif
