#ifndef CCLD_KERNELS_POOL_H
#define CCLD_KERNELS_POOL_H

#include "kernels/device.h"

/* A device's memory: large regions from the backend, split into blocks on request. A request gets
 * the smallest idle block that fits; the remainder stays idle, and adjacent idle blocks are merged.
 * Addresses depend only on the order of requests, so that a repeated step gets the same addresses
 * and requests nothing from the system. */
struct pool;

struct pool *pool_new(struct device *d);
void pool_free(struct pool *p); /* does not free regions with blocks in use */

/* Returns NULL if the backend is out of memory. *granted: bytes of the block. */
void *pool_take(struct pool *p, size_t bytes, size_t *granted);
void pool_give(struct pool *p, void *data, size_t granted);

/* Before the pool takes more than `bytes` from the system, it returns idle regions. 0: no plan. */
void pool_plan(struct pool *p, size_t bytes);
/* Keeps all regions until pool_free: recorded work still uses idle ones. */
void pool_keep(struct pool *p);
void pool_trim(struct pool *p); /* returns completely idle regions to the backend */
struct device_memory pool_memory(const struct pool *p);

#endif
