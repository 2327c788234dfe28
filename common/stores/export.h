#ifndef CCLD_STORES_EXPORT_H
#define CCLD_STORES_EXPORT_H

#include "formats/shards/shard_store.h"

struct export_summary {
    int64_t records, damaged;
    int tars;
};

/* Writes the records of the stores, in order, to tars in the folder `out`, 00000.tar and so on, of
 * at most per_tar records each, by the convention of WebDataset: record i of all is the members
 *   KEY.moments.npy  F16 [2z, h, w]
 *   KEY.embed.npy    F32 or F16 [d]
 *   KEY.json         {"path", "width", "height"}
 * with i in nine digits as KEY. out is a new or empty folder. Damaged records are reported and left
 * out. A tar appears under its name when it is complete. */
int stores_export(const char *out, const struct shard_folders *stores, int64_t per_tar,
                  struct export_summary *summary, struct error *e);

#endif
