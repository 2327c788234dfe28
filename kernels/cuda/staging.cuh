#ifndef CCLD_KERNELS_CUDA_STAGING_CUH
#define CCLD_KERNELS_CUDA_STAGING_CUH

#include "kernels/cuda/cuda.cuh"

/* Pinned host memory between the program's memory and the GPU: the GPU's copies run at the speed of
 * the bus and overlap with the host's. For one stream; not thread-safe. */
struct staging;

/* Returns NULL if out of pinned memory. `index` is the GPU. */
struct staging *staging_new(int index, cudaStream_t stream);
void staging_free(struct staging *s); /* s may be NULL */

/* Returns when src may be reused, possibly before dst is written. */
void staging_upload(struct staging *s, void *dst, const void *src, size_t bytes);
/* Reads a few bytes while the GPU continues with later work. They are valid when staging_fetched
 * returns, until the next copy. */
const void *staging_fetch(struct staging *s, const void *src, size_t bytes);
void staging_fetched(struct staging *s);
/* Returns when dst is complete. */
void staging_download(struct staging *s, void *dst, const void *src, size_t bytes);

#endif
