#ifndef CCLD_FORMATS_SHARDS_SHARD_INTERNAL_H
#define CCLD_FORMATS_SHARDS_SHARD_INTERNAL_H

#include <lmdb.h>
#include <sys/stat.h>

#include "formats/shards/path_set.h"
#include "formats/shards/shard_store.h"

/* Shared by the reader, writer and verifier of shard stores: the LMDB environment of one shard, and
 * records as bytes. */

/* An open shard. count, statistics and finished are as of opening, or of the writer's last commit.
 */
struct shard {
    char name[24]; /* "00000.mdb" */
    char *file;    /* folder/name */
    bool claimed;  /* see shard_claim */
    dev_t device;
    ino_t inode;
    MDB_env *env;
    MDB_dbi samples, paths, meta;
    int version;
    struct shard_info info;
    int64_t count;
    struct latent_statistics statistics;
    bool finished;
};

/* Values of the `paths` database. */
#define SHARD_PATH_VALUE_SIZE 24 /* without a hash */
#define SHARD_PATH_VALUE_MOST (SHARD_PATH_VALUE_SIZE + CONTENT_HASH_SIZE)
struct shard_path_value {
    int64_t size, mtime_ns, index;
    bool hashed; /* else the hash is not known */
    uint8_t hash[CONTENT_HASH_SIZE];
};
/* Returns the size of the value. */
size_t shard_path_value_pack(uint8_t out[SHARD_PATH_VALUE_MOST], const struct shard_path_value *v);
bool shard_path_value_parse(struct shard_path_value *v, const MDB_val *value);
void shard_put_be64(uint8_t out[8], uint64_t v);
uint64_t shard_get_be64(const uint8_t in[8]);

/* Whether another process has the shard open. */
bool shard_in_use(const char *folder, int number);
/* The shard of `count` that has the path, -1 (none) or -2 (error). *last_hit: where the search
 * begins, and the shard found. */
int shard_find_path(struct shard *shards, int count, int *last_hit,
                    const uint8_t path[PATH_KEY_SIZE], struct shard_path_value *found,
                    struct error *e);

/* Counts the shards in a folder; fails unless they are named 00000.mdb ... without gaps. *foreign
 * is malloc'ed: the name of one entry that does not belong to a store, or NULL. Set even on
 * failure. */
int shard_folder_list(const char *folder, int *shards, char **foreign, struct error *e);
#define SHARD_FOLDER_FOREIGN                                                                       \
    "the folder holds '%s' but no shards; a new store needs an empty folder"
/* The numbers of the shards in a folder from which a join has moved the first ones: [*first, *end)
 * without gaps. Both are 0 if there are none. */
int shard_folder_range(const char *folder, int *first, int *end, struct error *e);
/* Whether the folder is a part of a store by its name: it ends in parts/N. */
#define SHARD_PARTS "parts"
bool shard_folder_is_part(const char *folder);
/* Takes the lock of a writer, which *fd holds until it is closed. *fd is -1 if the folder cannot be
 * opened. */
int shard_folder_lock(int *fd, const char *folder, struct error *e);
/* Removes the temporary files that killed programs have left in the folder, whose lock the caller
 * holds. No join or removal may have begun to change it. */
void shard_folder_clean(const char *folder);
/* A shard is written under another name, with a dot before and this behind. */
#define SHARD_NEW  ".new"
#define SHARD_KEPT ".kept" /* what a removal leaves of it */
/* Removes LMDB's lock files of shards that have been moved away. */
void shard_folder_remove_locks(const char *folder);
/* Whether a join into the folder has not ended: see shard_stores_join. */
#define SHARD_JOURNAL ".join"
bool shard_folder_joining(const char *folder);
#define SHARD_JOIN_INTERRUPTED                                                                     \
    "a 'ccld-shards join' into it has not finished; if it was interrupted, repeat it"

/* In OUT and in the folders of the stores that are joined, for a moment. */
#define SHARD_JOURNAL_NEW   SHARD_JOURNAL ".new"
#define SHARD_JOURNAL_PROBE SHARD_JOURNAL ".probe"

/* Whether records are being removed: see shard_remover_open. */
#define SHARD_REMOVAL ".remove"
bool shard_folder_removing(const char *folder);
#define SHARD_REMOVAL_INTERRUPTED                                                                  \
    "a 'ccld-shards remove' or 'repair' of it has not finished; if it was interrupted, repeat it"

#define SHARDS_MAX 100000 /* five digits */
void shard_name(char name[24], int number);

/* What a shard is opened for; the more of its pages LMDB is going to read, the more are checked. */
enum shard_use {
    SHARD_READ,  /* records */
    SHARD_CHECK, /* everything */
    SHARD_WRITE, /* everything, and to change it */
};
/* Fails if the file is damaged so that LMDB might crash. */
int shard_open(struct shard *s, const char *folder, int number, enum shard_use use,
               struct error *e);
void shard_close(struct shard *s);
/* Fails if this process has the file open. LMDB locks with fcntl: closing one of two environments
 * of a file would release the locks of both and destroy the mutexes that the other one uses. */
int shard_claim(struct shard *s, const struct stat *st, struct error *e);
void shard_unclaim(struct shard *s);
/* Creates shard `number` without records; it appears under its name when complete. */
int shard_create(const char *folder, int number, const struct shard_info *info, size_t map_size,
                 struct error *e);

/* Creates a shard without records in this file and leaves it open: env and the databases are set,
 * version and info must be. flags: LMDB's. Returns LMDB's code. */
int shard_create_env(struct shard *s, const char *file, unsigned flags, size_t map_size);

/* Each open shard needs three descriptors, so a large store may exceed the usual soft limit. Raises
 * it; returns false if it cannot be. */
bool shard_raise_file_limit(void);

/* Begins a transaction, remapping the file if another process has grown it. Returns LMDB's code. */
int shard_txn_begin(struct shard *s, bool write, MDB_txn **txn);
/* Begins a transaction to read anything in the shard, after checking all its pages. */
int shard_begin_checked(struct shard *s, MDB_txn **txn, struct error *e);
/* Sets version, info, count, statistics and finished to what the transaction sees. */
int shard_read_state(struct shard *s, MDB_txn *txn, struct error *e);
/* Sets version, info, statistics and finished to what a meta record says; uses only the name
 * besides. */
int shard_meta_parse(struct shard *s, const MDB_val *value, struct error *e);
int shard_grow_map(struct shard *s, struct error *e); /* doubles it; no transaction may be open */
/* Writes the meta record. Returns LMDB's code. */
int shard_put_meta(struct shard *s, MDB_txn *txn, const struct latent_statistics *statistics,
                   bool finished);
/* "<shard>: <what>: <LMDB code as text>". Returns -1. */
int shard_error(struct error *e, const struct shard *s, const char *what, int code);

/* Makes the value of a record: its frame and its label; *value is malloc'ed. moments_f16 receives
 * the moments as stored, 2*z*h*w elements. zstd: a ZSTD_CCtx. */
int shard_value_make(uint8_t **value, size_t *size, uint16_t *moments_f16, void *zstd,
                     const struct shard_item *item, const struct shard_info *i, struct error *e);
/* Fills r from a value after checking its checksum, shapes and metadata. If the frame is damaged,
 * r->path still is the label's, or NULL. */
int shard_value_read(struct shard_record *r, const MDB_val *value, const struct shard_info *i,
                     struct error *e);
/* "00000.mdb, index 17 ('photos/1.jpg')", before the reason in e; path may be NULL. Returns -1. */
int shard_record_error(struct error *e, const struct shard *s, int64_t index, const char *path);

/* The label of a record: its path outside the frame, which names the image if the frame is damaged.
 */
enum shard_label {
    SHARD_LABEL_FOUND,
    SHARD_LABEL_NONE, /* a record written before there were labels */
    SHARD_LABEL_DAMAGED,
};
void shard_label_append(uint8_t **value, size_t *size, const char *path);
/* *path: reallocated if there is a label. */
enum shard_label shard_label_read(char **path, const MDB_val *value);

#endif
