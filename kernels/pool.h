#ifndef CCLD_KERNELS_POOL_H
#define CCLD_KERNELS_POOL_H

#include "kernels/device.h"

/* A device's memory: large regions of the backend's, cut into blocks as they are asked for. A
 * request gets the smallest idle block that holds it, what is left over stays idle, and neighbours
 * that are idle become one again. Which addresses come out depends on the order of requests only:
 * a step that is repeated gets the same ones, and nothing from the system. */
struct pool;

struct pool *pool_new(struct device *d);
void pool_free(struct pool *p); /* regions with blocks in use are left alone */

/* NULL: the backend has no memory left. *granted: bytes of the block. */
void *pool_take(struct pool *p, size_t bytes, size_t *granted);
void pool_give(struct pool *p, void *block, size_t granted);

/* From now on regions only go back in pool_free: recorded work still uses idle ones. */
void pool_keep(struct pool *p);
void pool_trim(struct pool *p); /* regions that are idle as a whole go back to the backend */
struct device_memory pool_memory(const struct pool *p);

#endif
