#ifndef CCLD_TRAIN_DATASET_INTERNAL_H
#define CCLD_TRAIN_DATASET_INTERNAL_H

#include "common/train/dataset.h"

/* A record as floats: moments [2z, h, w], embed [d]. r: the calling thread's memory. */
int dataset_read(struct dataset *d, int64_t record, struct shard_record *r, float *moments,
                 float *embed, struct error *e);

#endif
