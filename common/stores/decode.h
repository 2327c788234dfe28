#ifndef CCLD_STORES_DECODE_H
#define CCLD_STORES_DECODE_H

#include <stdio.h>

#include "common/nets/model.h"
#include "formats/shards/shard_store.h"

/* What the autoencoder makes of the means of records, in the order given: an image stream
 * (formats/images/image_stream.h) with the remarks `path` and `index`. The autoencoder of m must be
 * loaded. indices: counted through all folders. Fails if the
 * latents come from another autoencoder, and for a record that is damaged or does not
 * exist; the images before it have been written then. */
int stores_decode(FILE *out, const struct shard_folders *stores, const int64_t *indices, int64_t n,
                  const struct model *m, struct tape *t, struct error *e);

#endif
