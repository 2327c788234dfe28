#ifndef CCLD_STORES_LISTING_H
#define CCLD_STORES_LISTING_H

#include "formats/shards/shard_store.h"

struct listing_options {
    bool store; /* each record's store comes first */
    bool json;  /* an object per record, else columns separated by tabs */
    bool null;  /* records end with NUL, and paths are printed as they are */
};

/* Prints the records of a store in `folder` to standard output: index, path, size of the image in
 * pixels and, in objects, the hash of its bytes. Damaged records are reported; of those without a
 * label, only an object is printed. Returns 0, or 1 if something was damaged. Stops when writing
 * fails. */
int listing_print(struct shard_store *s, const char *folder, const struct listing_options *o);

#endif
