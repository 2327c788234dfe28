#ifndef CCLD_KERNELS_CUDA_STAGING_CUH
#define CCLD_KERNELS_CUDA_STAGING_CUH

#include "kernels/cuda/cuda.cuh"

/* Pinned host memory between the program's memory and the GPU: the GPU's copies through it run at
 * the bus's speed, and beside the host's. For one stream, called by one thread at a time. */
struct staging;

/* NULL where there is no memory for it. `index` is the GPU. */
struct staging *staging_new(int index, cudaStream_t stream);
void staging_free(struct staging *s); /* NULL is fine */

/* Returns when src may be changed, maybe before dst is written. */
void staging_upload(struct staging *s, void *dst, const void *src, size_t bytes);
/* A few bytes that are read while the GPU goes on with what is begun behind this. They are there
 * when staging_fetched returns, and stay until the next copy. */
const void *staging_fetch(struct staging *s, const void *src, size_t bytes);
void staging_fetched(struct staging *s);
/* Returns when dst is there. */
void staging_download(struct staging *s, void *dst, const void *src, size_t bytes);

#endif
