#ifndef CCLD_KERNELS_CUDA_PLAN_CACHE_H
#define CCLD_KERNELS_CUDA_PLAN_CACHE_H

#include <stddef.h>

/* What was chosen by timing, kept between runs: lines of text in one file per library version and
 * kind of GPU. The first choice for a key stays, whoever made it; processes that run at once do
 * each other no harm. Lines that are damaged are ignored, a file that cannot be read is an empty
 * one. */
struct plan_cache;

/* folder NULL: nothing is kept. library: with its version, "cudnn-91900". */
struct plan_cache *plan_cache_new(const char *folder, const char *library, const char *gpu);
void plan_cache_free(struct plan_cache *c);
bool plan_cache_keeps(const struct plan_cache *c);
/* NULL: nothing is known. Valid until the next call. */
const char *plan_cache_get(struct plan_cache *c, const char *key);
/* Keeps value, unless another process was faster. Returns what is to be used, valid until the next
 * call. stale: what get said, but is of no use (any longer); or NULL. None of them may have tabs or
 * line ends. */
const char *plan_cache_put(struct plan_cache *c, const char *key, const char *value,
                           const char *stale);

#endif
