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

/* A large copy in pieces that are used on the device as they arrive: while one is read, others are
 * on the bus or in use. */
#define STAGING_PIECE ((size_t)2 << 20)
#define STAGING_ROOM  (12 * STAGING_PIECE)
struct staging_pieces {
    const char *src;     /* may be a mapped file, of which the pieces ahead are asked for */
    size_t bytes, piece; /* in all, and of each but the last: at most STAGING_PIECE */
    char *room;          /* STAGING_ROOM bytes on the device, which earlier work may still use */
    /* Gives work to the stream that reads `bytes` of src from `at` on. Called by several threads.
     */
    void (*use)(void *context, const void *on_device, size_t at, size_t bytes);
    void *context;
};
/* Returns when src may be reused. The stream's later work may use what `use`'s has written. */
void staging_pass(struct staging *s, const struct staging_pieces *p);

#endif
