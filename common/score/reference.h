#ifndef CCLD_SCORE_REFERENCE_H
#define CCLD_SCORE_REFERENCE_H

#include "common/data/latent_set.h"
#include "common/score/embedder.h"
#include "common/score/embeddings.h"

/* What samples are compared with: the embeddings of a data set. */

/* Reads embeddings of records that are not held out, on all threads: at most `most`, the first ones
 * of a random order that depends on the seed. Damaged records are left out, with a warning. */
int reference_from_store(struct embeddings *out, struct latent_set *d, int64_t most, uint64_t seed,
                         struct error *e);
/* Embeds images, at most `most` files chosen so. */
int reference_from_images(struct embeddings *out, const struct embedder *m, char *const *paths,
                          int64_t count, int64_t most, uint64_t seed, int64_t max_pixels,
                          struct error *e);

/* What --against names. */
struct reference_paths {
    bool stores;  /* items are shard stores, else image files */
    char **items; /* malloc'ed, each as well */
    int64_t count;
};
/* A folder with shards, or with parts of a store, is a store; another folder stands for the images
 * in it and its folders, in the order of their paths; any other file that is not an image is a list
 * of paths. Fails if stores and images are mixed. */
int reference_paths_expand(struct reference_paths *out, const struct string_list *names,
                           struct error *e);
void reference_paths_release(struct reference_paths *p);

#endif
