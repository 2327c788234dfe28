#ifndef CCLD_KERNELS_CUDA_PLAN_CACHE_H
#define CCLD_KERNELS_CUDA_PLAN_CACHE_H

#include <stddef.h>

/* Choices made by timing, kept between runs: lines of text in one file per library version and GPU
 * model. The first choice for a key stays, whichever process made it, so that concurrent processes
 * are safe. Damaged lines are ignored; an unreadable file counts as empty. */
struct plan_cache;

/* folder: NULL to store nothing. library: name and version, as in "cudnn-91900". */
struct plan_cache *plan_cache_new(const char *folder, const char *library, const char *gpu);
void plan_cache_free(struct plan_cache *c);
bool plan_cache_keeps(const struct plan_cache *c);
/* Returns NULL if the key is unknown. Valid until the next call. */
const char *plan_cache_get(struct plan_cache *c, const char *key);
/* Stores value, unless another process was faster. Returns the value to use, valid until the next
 * call. stale: a value that get returned but that no longer works, or NULL. None of them may
 * contain tabs or newlines. */
const char *plan_cache_put(struct plan_cache *c, const char *key, const char *value,
                           const char *stale);

#endif
