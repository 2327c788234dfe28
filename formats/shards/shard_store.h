#ifndef CCLD_FORMATS_SHARDS_SHARD_STORE_H
#define CCLD_FORMATS_SHARDS_SHARD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/dtype.h"
#include "common/base/error.h"
#include "formats/shards/path_set.h"

/* A shard store: the latents and embeddings of many images, in a folder.
 *
 * The files are 00000.mdb, 00001.mdb ... without gaps. Each is one LMDB environment in a single
 * file (MDB_NOSUBDIR), next to LMDB's lock file 00000.mdb-lock, which may be deleted while no
 * program uses the store. A new shard is created as .00000.mdb.new and renamed when its databases
 * exist. A writer holds an flock on the folder. Each shard has three named databases:
 *
 *   samples  Key: the index within the shard, 8 bytes big-endian, from 0 without gaps.
 *            Value: two frames of zstd. The first one, with content size and checksum, contains
 *            one safetensors blob:
 *              moments       F16 [2z, h, w]: mean, then log-variance of the autoencoder's
 *                            posterior, as output by its quant_conv (not scaled, not clamped)
 *              embed         F32 or F16 [d], unit norm: the CLOOB image embedding
 *              thumbnail     U8 [3, 8, 8]: mean colors of 8x8 cells of the autoencoder's input, by
 *                            which duplicates are found; it is missing in older records
 *              __metadata__  path        as given to the encoder; if it is not UTF-8, each
 *                                        invalid byte is replaced by U+FFFD
 *                            path_bytes  only then: all bytes of the path in hexadecimal
 *                            width       of the source image in pixels, decimal; after
 *                            height      rotation if preprocessing applies it
 *            The second one, a skippable frame with the magic number 0x184D2A5C, is the label: all
 *            bytes of the path, their XXH3-64 (8 bytes, big-endian) and the size of the label
 *            (4 bytes, little-endian). It is missing in older records.
 *   paths    Key: XXH3-128 of the path's bytes, canonical (big-endian).
 *            Value: 24 or 40 bytes, big-endian: the file's size in bytes (8), its mtime in
 *            nanoseconds since 1970 (8, signed), the index within the shard (8), and, unless it is
 *            not known, the XXH3-128 of the image's bytes (16): of the file, or of the archive's
 *            member (content_hash).
 *   meta     Key: "store" (5 bytes). Value: JSON, in every shard:
 *              format         "ccld-shards"
 *              version        2; 1: no value of `paths` has a hash. Writing records to a shard of
 *                             version 1 makes it one of version 2, in which the old records have
 *                             no hash. A store may have shards of both versions
 *              latent_shape   [z, h, w]
 *              embed_size     d
 *              embed_dtype    "F32" or "F16"
 *              image_size     [height, width] of the autoencoder's input in pixels
 *              preprocessing  "display" or "pil"
 *              autoencoder    {"name": file name, "hash": hexadecimal hash of its weights,
 *                             "encoder": type and hash of those that made the latents}; the
 *                             last is missing in stores of earlier versions
 *              cloob          likewise
 *              statistics     {"count", "mean", "mean_square"} of this shard's latents
 *              finished       in the last shard: whether the last run reached the end of its
 *                             list; in all others: true
 *
 * While stores are joined into the folder, it contains the file .join (see shard_stores_join). A
 * joined store may have shards of different sizes anywhere.
 *
 * The files .embeddings and .thumbnails are caches (embed_cache.h), which can be deleted. Temporary
 * files that killed programs have left are removed by the next one that writes to the store.
 *
 * A folder without shards that contains parts/0, parts/1 ... is a store in parts
 * (shard_parts_open).
 *
 * Records are in input order: by shard, then by index. A file that has changed is encoded again in
 * place of its old record.
 *
 * The statistics describe posterior samples x = mean + exp(clamp(logvar, -30, 20) / 2) * n with
 * normal n. They are exact expectations over n, computed from the F16 values as stored: count is
 * the number of latent elements (records * z*h*w), mean is the average of E[x] = mean, and
 * mean_square is the average of E[x^2] = mean^2 + exp(clamp(logvar, -30, 20)). The scale factor of
 * a latent diffusion model is sqrt(mean_square - mean^2), with shards weighted by count. Replacing
 * a record subtracts its old contribution.
 *
 * To read a store in Python (lmdb, zstandard, safetensors):
 *
 *   import lmdb, pathlib, zstandard, safetensors.numpy as st
 *   for f in sorted(pathlib.Path("shards").glob("*.mdb")):
 *       env = lmdb.open(str(f), subdir=False, readonly=True, lock=False, max_dbs=3)
 *       for key, frame in env.begin(db=env.open_db(b"samples", create=False)).cursor():
 *           record = st.load(zstandard.decompress(frame))  # record["moments"], record["embed"]
 */

#define SHARD_VERSION        2
#define SHARD_VERSION_HASHES 2     /* the first one with hashes of images */
#define SHARD_SIZE_DEFAULT   65536 /* records */

#define SHARD_THUMBNAIL_SIDE  8
#define SHARD_THUMBNAIL_BYTES (3 * SHARD_THUMBNAIL_SIDE * SHARD_THUMBNAIL_SIDE)

struct shard_model {
    char name[128]; /* file name, for messages only */
    char hash[80];  /* hexadecimal; if equal, two models are the same ... */
    /* ... and if these are, they make the same data: see names_encoder_hash; "": not known */
    char encoder[48];
};

/* Properties that all records of a store share. */
struct shard_info {
    int latent_channels, latent_height, latent_width; /* z, h, w */
    int embed_size;                                   /* d */
    enum dtype embed_dtype;                           /* DTYPE_F32 or DTYPE_F16 */
    int image_height, image_width;                    /* pixels */
    char preprocessing[24];                           /* "display" or "pil" */
    struct shard_model autoencoder, cloob;
};
size_t shard_latent_count(const struct shard_info *i); /* z*h*w */

/* Fails, naming both sides, unless two models make the same data. what: "autoencoder", "CLOOB". */
int shard_model_check(const char *what, const struct shard_model *a, const struct shard_model *b,
                      struct error *e);
/* Fails, naming both sides, if records of one must not be mixed with records of the other. Model
 * files may have different names, but the hashes of their weights must match. */
int shard_info_check(const struct shard_info *store, const struct shard_info *other,
                     struct error *e);

struct latent_statistics {
    double count, mean, mean_square; /* count: latent elements; if 0, all are 0 */
};
/* Adds (sign 1) or subtracts (sign -1) one record's moments, F16 [2z, h, w]. */
void latent_statistics_add(struct latent_statistics *s, const struct shard_info *i,
                           const uint16_t *moments, int sign);
void latent_statistics_merge(struct latent_statistics *s, const struct latent_statistics *other);
/* sqrt(mean_square - mean^2); NaN without records. */
double latent_statistics_scale(const struct latent_statistics *s);

/* One record, with buffers that the next read reuses: keep one per thread. The pointers are valid
 * until the next read or the release. */
struct shard_record {
    const uint16_t *moments;  /* F16 [2z, h, w] */
    const void *embed;        /* [d] of embed_dtype */
    const uint8_t *thumbnail; /* [3, 8, 8], or NULL */
    const char *path;         /* its exact bytes */
    int width, height;        /* of the source image, pixels */

    const uint8_t *blob; /* the safetensors blob that the above point into */
    size_t blob_size;
    size_t blob_capacity;
    char *path_buffer;
    void *zstd;
};
void shard_record_init(struct shard_record *r);
void shard_record_release(struct shard_record *r);
/* Fails if a latent or embedding element is infinite or NaN, or if the embedding's norm is not 1
 * (within 1%). */
int shard_record_check_values(const struct shard_record *r, const struct shard_info *i,
                              struct error *e);

/* Reading. A store may be read while it is being written by another process; the reader sees the
 * records that existed when it opened the store. One process opens a shard once: LMDB's locks
 * belong to the process, and the first close would release them all. So a second reader or writer
 * of a shard in a process is refused; a forked process opens stores of its own. All functions but
 * open and close may be called by several threads. */
struct shard_store;
int shard_store_open(struct shard_store **out, const char *folder, struct error *e);
void shard_store_close(struct shard_store *s); /* NULL is fine */
int64_t shard_store_count(const struct shard_store *s);
const struct shard_info *shard_store_info(const struct shard_store *s);
struct latent_statistics shard_store_statistics(const struct shard_store *s);
bool shard_store_finished(const struct shard_store *s);

struct shard_summary {
    const char *name; /* "00000.mdb" */
    int version;      /* of the format, 1 to SHARD_VERSION */
    int64_t count;    /* records */
    uint64_t bytes;   /* of the file */
    bool finished;
    int64_t modified_ns;  /* mtime of the file, since 1970 */
    uint64_t transaction; /* the last one, which replacing or adding records increases */
};
int shard_store_shards(const struct shard_store *s);
struct shard_summary shard_store_shard(const struct shard_store *s, int shard);
/* Returns the shard that holds record `index` of the store, and sets the index within it. */
int shard_store_locate(const struct shard_store *s, int64_t index, int64_t *index_in_shard);

/* Reads record `index`, 0 <= index < count: decompresses it and checks its checksum and shapes. An
 * error names the shard, the index within it and, from the label, the path: r->path, or NULL if it
 * is unknown. SHARD_RECORD_DAMAGED: others can still be read; -1: the system is to blame. */
#define SHARD_RECORD_DAMAGED 1
int shard_store_read(struct shard_store *s, int64_t index, struct shard_record *r, struct error *e);

struct shard_path {
    const uint8_t *key;  /* path_key */
    int64_t index;       /* of the record */
    const uint8_t *hash; /* content_hash of the image, or NULL: not known */
};
/* Calls `each` for each record, shard by shard in the order of the keys. Fails if a shard's pages
 * are damaged. */
int shard_store_each_path(struct shard_store *s,
                          void (*each)(void *arg, const struct shard_path *path), void *arg,
                          struct error *e);

/* Checks everything in a store that can be opened: the pages of each LMDB file, each frame and its
 * checksum, each record's shapes and values, keys without gaps, paths against samples in both
 * directions, duplicate paths, statistics. Calls problem for each fault, with text that names the
 * shard and the index. Returns the number of problems, and in *records the number of records
 * checked. progress may be NULL. */
int64_t shard_store_verify(const char *folder, void (*problem)(void *arg, const char *text),
                           void (*progress)(void *arg, int64_t done, int64_t total), void *arg,
                           int64_t *records);

/* Writing. One thread may call lookup while another calls put. */
struct shard_writer;
struct shard_writer_options {
    int64_t shard_size; /* records per shard; 0: SHARD_SIZE_DEFAULT */
    size_t map_size;    /* initial bytes of a new shard's map, grown as needed; 0: 64 MiB */
};
/* Creates the folder if needed; the first record creates the first shard. Refuses a folder without
 * shards that contains other files, a store that another writer has open, and a store whose records
 * must not be mixed with `info`'s. */
int shard_writer_open(struct shard_writer **out, const char *folder, const struct shard_info *info,
                      const struct shard_writer_options *options, struct error *e);

enum shard_path_state {
    SHARD_PATH_NEW,     /* not in the store */
    SHARD_PATH_DONE,    /* in the store with the same size and mtime */
    SHARD_PATH_CHANGED, /* in the store with another size or mtime */
};
struct shard_path_found {
    enum shard_path_state state;
    bool hashed; /* the hash of the record's image is known */
    uint8_t hash[CONTENT_HASH_SIZE];
};
int shard_writer_lookup(struct shard_writer *w, const char *path, int64_t size, int64_t mtime_ns,
                        struct shard_path_found *found, struct error *e);
/* Calls `each` with the hash of each record's image, NULL if it is not known. */
int shard_writer_each_hash(struct shard_writer *w, void (*each)(void *arg, const uint8_t *hash),
                           void *arg, struct error *e);

struct shard_item {
    const char *path;
    int64_t size, mtime_ns; /* of the file, taken before it was read */
    const uint8_t *hash;    /* content_hash of the image, or NULL: not known */
    int width, height;
    const float *moments;     /* [2z, h, w] */
    const float *embed;       /* [d] */
    const uint8_t *thumbnail; /* [3, 8, 8]; NULL: the record gets none */
};
/* Fails for an item that must not be stored: elements that are not finite (in F16 for moments), or
 * an embedding whose norm is not 1 (within 1%). */
int shard_item_check(const struct shard_item *item, const struct shard_info *i, struct error *e);

/* Stores a batch: new paths are appended in order, and known paths replace their old records. Each
 * shard that the batch touches gets one transaction: after a crash, the shard has all or none of
 * its part. A path must not occur twice in a batch. After an error, everything committed earlier is
 * intact, and the writer should be closed. */
int shard_writer_put(struct shard_writer *w, const struct shard_item *items, int n,
                     struct error *e);
/* Marks the store as finished: the run reached the end of its list. */
int shard_writer_finish(struct shard_writer *w, struct error *e);
const struct shard_info *shard_writer_info(const struct shard_writer *w);
int64_t shard_writer_count(struct shard_writer *w); /* records in the store */
struct latent_statistics shard_writer_statistics(struct shard_writer *w);
void shard_writer_close(struct shard_writer *w); /* NULL is fine */

/* Removing records. The others keep their order, and their indices change so that there are no
 * gaps. A shard that loses records is written again beside the old one, and all of these then get
 * the names of the old ones. If the program ends before that, nothing has changed; if it ends in
 * between, the folder holds the file .remove, writers refuse the store, and opening it for another
 * removal completes the first. */
struct shard_remover;
/* Takes the lock of a writer. Refuses a store that another program has open. *completed: records
 * were removed that an interrupted removal had left. */
int shard_remover_open(struct shard_remover **out, const char *folder, bool *completed,
                       struct error *e);
void shard_remover_close(struct shard_remover *r);          /* NULL is fine */
int64_t shard_remover_count(const struct shard_remover *r); /* records in the store */
/* Sets *index to that of the record with the path, or to -1 if there is none. */
int shard_remover_find(struct shard_remover *r, const char *path, int64_t *index, struct error *e);
/* Sets *path, malloc'ed, to the path of record `index`, or to NULL if it cannot be told. *reason is
 * why the record cannot be read; its text is empty if it can be. */
int shard_remover_inspect(struct shard_remover *r, int64_t index, char **path, struct error *reason,
                          struct error *e);
/* Removes the records `index` with remove[index], an array of all records. The remover can only be
 * closed afterwards. */
int shard_remover_run(struct shard_remover *r, const bool *remove, struct error *e);

/* A store in parts: the folder holds no shards but the stores parts/0, parts/1 ..., as several
 * encoders make them that share a list of paths. Part k of n has the paths of which path_part says
 * so, which is why the number of parts stays as it was when the folder was made. A part that no
 * path has fallen to yet is an empty folder. */
char *shard_part_folder(const char *folder, int part); /* malloc'ed */

struct shard_folders {
    char **items; /* malloc'ed, each as well */
    int count;
};
enum shard_parts_which {
    SHARD_PARTS_FILLED, /* to read: parts with shards. A folder that has shards as well is an error,
                           unless a join into it has not ended */
    SHARD_PARTS_ALL,    /* to join: all parts, of folders without shards */
};
/* The folders, with their parts in the place of those that are stores in parts. */
int shard_folders_expand(struct shard_folders *out, const char *const *folders, int n,
                         enum shard_parts_which which, struct error *e);
/* Fails, naming both, if two of the folders or of their shards are the same on disk, under whatever
 * names: a store given twice, a part beside its whole, a link. Copies are not recognized. */
int shard_folders_check_distinct(const struct shard_folders *f, struct error *e);
void shard_folders_release(struct shard_folders *f);

struct shard_parts {
    int count; /* 0: a single store, in the folder itself */
    int fd;    /* holds a writer's lock on the folder with the parts; -1: not held */
};
/* Prepares a folder for encoders that write its parts; shard_writer_open opens each of them. A new
 * or empty folder gets `wanted` parts; a store in parts keeps its number. wanted 0: nothing is
 * created, and a new folder is a single store. Fails for a single store if parts are wanted, for a
 * folder with shards and parts with shards, and if another program writes to its parts. */
int shard_parts_open(struct shard_parts *p, const char *folder, int wanted, struct error *e);
void shard_parts_close(struct shard_parts *p);

/* Makes one store of n by renaming their shards into the folder `out`, under consecutive numbers in
 * the order of the stores. out is a new or empty folder, a store in parts, or stores[0] itself. The
 * other folders remain, without shards. No record is read or written: a shard keeps its meta
 * record, and since every store is finished, so is the result.
 *
 * All checks come first, and if one fails, nothing changes: stores whose records must not be mixed
 * (shard_info_check), a store that is unfinished, has no shards and is no part of a store, is given
 * twice or is open in another program, a path that two stores have, shards that cannot be renamed
 * into out. If the process ends or a rename fails later on, every shard is in one of the folders,
 * out contains the file .join, its readers warn that it is incomplete, writers refuse it, and the
 * same call completes the join. After that the same call does nothing and succeeds. */
struct shard_join_summary {
    int64_t records; /* in the joined store */
    int shards;
    int moved; /* by this call */
};
int shard_stores_join(const char *out, char *const *stores, int n,
                      struct shard_join_summary *summary, struct error *e);

#endif
