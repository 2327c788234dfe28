#ifndef CCLD_DATA_LATENT_SET_INTERNAL_H
#define CCLD_DATA_LATENT_SET_INTERNAL_H

#include "common/data/latent_set.h"

/* Reads a record as floats: moments [2z, h, w], embed [d]. r: the calling thread's scratch memory.
 * SHARD_RECORD_DAMAGED: the user has been told. */
int latent_set_read(struct latent_set *d, int64_t record, struct shard_record *r, float *moments,
                    float *embed, struct error *e);

#endif
