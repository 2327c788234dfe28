#ifndef CCLD_TRAIN_COLLECTIVE_GROUPED_H
#define CCLD_TRAIN_COLLECTIVE_GROUPED_H

#include "common/train/collective.h"

/* Ranks whose devices communicate with each other (kernels/group.h), as GPUs do: sums and shares of
 * slices go from device to device, host memory through another collective. Sums have the order of
 * ranks on one host. With several hosts, the ranks of each are summed in order, and then the hosts:
 * the same bits in every run with as many hosts, but not with another number of them.
 *
 * host: of all ranks; belongs to *out if this succeeds. shards: ranks per host, of which host h has
 * ranks h * shards and following; if it does not divide the ranks evenly, as when hosts differ, all
 * ranks count as one host's. Every rank must call it, after opening d, and close it before d, and
 * only if no rank has failed. Returns 0, or -1 on all ranks with e set; if devices cannot connect,
 * ranks may differ in that. */
int collective_grouped(struct collective **out, struct collective *host, struct device *d,
                       int shards, struct error *e);

#endif
