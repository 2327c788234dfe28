#ifndef CCLD_KERNELS_GROUP_H
#define CCLD_KERNELS_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Communication between the devices of several processes, the ranks of a run. A flat array of
 * gradients or weights is divided into slices, of which each rank owns one, as in ZeRO stage 1
 * (Rajbhandari et al., arXiv 1910.02054): gradients are summed by the owner of a slice, which
 * updates its weights and shares them.
 *
 * With several hosts, the slices are divided among the ranks of a host, so that only a slice
 * crosses the network: rank r of every host owns the same slice. */
struct device;

#define GROUP_ID_BYTES 128

struct group_options {
    int shard, shards; /* this rank's number on its host, and ranks per host */
    int host, hosts;
    /* From new_id of rank 0 of this host, and of the rank with this shard on host 0. */
    unsigned char host_id[GROUP_ID_BYTES], shard_id[GROUP_ID_BYTES];
};

/* bounds: [shards + 1], ascending; slice s is [bounds[s], bounds[s + 1]), from the start of the
 * pointers below. All ranks pass the same. GPUs are fastest with slices of equal length whose
 * bounds are multiples of 16 bytes. */

/* total, of the slice that this rank owns: total[i] = ((total[i] + own[i] of shard 0) + own[i] of
 * shard 1) + ..., with `first` starting from shard 0's own[i]; then the sums of hosts are added.
 * own: all slices; total: the slice only, elsewhere. */
struct sum_slices_args {
    const float *own;
    float *total;
    const int64_t *bounds; /* in floats; host memory, read during the call only */
    bool first;
};

/* whole: all slices, of which each rank has filled its own; afterwards all have all. */
struct share_slices_args {
    void *whole;
    const int64_t *bounds; /* in elements */
    size_t element;        /* bytes of one */
};

/* What a backend offers. sum_slices and share_slices start when all work given to the device before
 * them is done, and run beside work given to it after them, until join: work after it starts when
 * they are done. They and join may be recorded (struct backend); a recording begins and ends with
 * join, as does synchronize. All ranks make the same calls in the same order. */
struct group_functions {
    /* Fills id[GROUP_ID_BYTES]. NULL, or why it cannot. */
    const char *(*new_id)(void *id);
    /* Returns when all ranks have called it. NULL, or why it cannot. */
    const char *(*open)(struct device *d, const struct group_options *o);
    void (*sum_slices)(struct device *d, const struct sum_slices_args *a);
    void (*share_slices)(struct device *d, const struct share_slices_args *a);
    void (*join)(struct device *d);
    /* Only after success: if a rank has failed, end the process instead. */
    void (*close)(struct device *d);
};

#endif
