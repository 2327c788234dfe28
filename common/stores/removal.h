#ifndef CCLD_STORES_REMOVAL_H
#define CCLD_STORES_REMOVAL_H

#include <stdint.h>

#include "formats/shards/shard_store.h"

/* Removing records from a store, or from the parts of a store as if they were one. */

struct removal_summary {
    int64_t removed, records; /* records: those left */
    int64_t missing;          /* entries of the list that no record matches */
    bool completed;           /* an interrupted removal was completed first */
};

/* Removes the records that standard input lists, entries ending with the separator: a path; an
 * index, counted through all folders; or an index, a tab, the path as ccld-shards ls prints it and
 * anything behind another tab. Entries that no record matches are reported. Nothing is removed if
 * the path of an index is another one, or after an interrupted removal, which changed indices. The
 * list is read to its end before the folders are opened, so that a program that reads them can make
 * it. */
int removal_of_list(struct removal_summary *out, const struct shard_folders *folders,
                    char separator, struct error *e);
/* Removes the records that cannot be read, and reports each of them. */
int removal_of_damaged(struct removal_summary *out, const struct shard_folders *folders,
                       struct error *e);

#endif
