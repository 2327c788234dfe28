#ifndef CCLD_FORMATS_SHARDS_SHARD_INTERNAL_H
#define CCLD_FORMATS_SHARDS_SHARD_INTERNAL_H

#include <lmdb.h>

#include "formats/shards/path_set.h"
#include "formats/shards/shard_store.h"

/* What reader, writer and verifier of shard stores share: one shard's environment, and records as
 * bytes. */

/* One shard, opened. count, statistics and finished are as of opening, or of the writer's last
 * commit. */
struct shard {
    char name[24]; /* "00000.mdb" */
    char *file;    /* folder/name */
    MDB_env *env;
    MDB_dbi samples, paths, meta;
    struct shard_info info;
    int64_t count;
    struct latent_statistics statistics;
    bool finished;
};

/* The number of shards in a folder, which must be named 00000.mdb ... without gaps. foreign
 * (malloc'ed, NULL if none): one entry that is no part of a store; *new_store_ok: no shards, and
 * nothing foreign. */
int shard_folder_list(const char *folder, int *shards, char **foreign, struct error *e);
void shard_name(char name[24], int number);

int shard_open(struct shard *s, const char *folder, int number, bool write, struct error *e);
void shard_close(struct shard *s);
/* Makes shard `number` with no records, complete before it appears under its name. */
int shard_create(const char *folder, int number, const struct shard_info *info, size_t map_size,
                 struct error *e);

/* Begins a transaction, following a map that another process has grown. Returns LMDB's code. */
int shard_txn_begin(struct shard *s, bool write, MDB_txn **txn);
/* Fills info, count, statistics and finished with what the transaction sees. */
int shard_read_state(struct shard *s, MDB_txn *txn, struct error *e);
int shard_grow_map(struct shard *s, struct error *e); /* doubles it; no transaction may be open */
/* Puts the meta record. Returns LMDB's code. */
int shard_put_meta(struct shard *s, MDB_txn *txn, const struct latent_statistics *statistics,
                   bool finished);
/* "<file>: <what>: <why>" of an LMDB code. Returns -1. */
int shard_error(struct error *e, const struct shard *s, const char *what, int rc);

/* Values of the `paths` database. */
#define SHARD_PATH_VALUE_SIZE 24
struct shard_path_value {
    int64_t size, mtime_ns, index;
};
void shard_path_value_pack(uint8_t out[SHARD_PATH_VALUE_SIZE], const struct shard_path_value *v);
bool shard_path_value_parse(struct shard_path_value *v, const MDB_val *value);
void shard_put_be64(uint8_t out[8], uint64_t v);
uint64_t shard_get_be64(const uint8_t in[8]);

/* A record's frame from its parts; *frame is malloc'ed. moments_f16: scratch of 2zhw elements, the
 * moments as stored afterwards. zstd: a ZSTD_CCtx. */
int shard_frame_make(uint8_t **frame, size_t *size, uint16_t *moments_f16, void *zstd,
                     const struct shard_item *item, const struct shard_info *i, struct error *e);
/* Fills r from a frame: checks frame, checksum, shapes, metadata. */
int shard_frame_read(struct shard_record *r, const MDB_val *frame, const struct shard_info *i,
                     struct error *e);

#endif
