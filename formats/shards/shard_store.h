#ifndef CCLD_FORMATS_SHARDS_SHARD_STORE_H
#define CCLD_FORMATS_SHARDS_SHARD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/dtype.h"
#include "common/base/error.h"

/* A shard store: the latents and embeds of many images, in a folder.
 *
 * Files: 00000.mdb, 00001.mdb ... without gaps. Each is one LMDB environment in a single file
 * (MDB_NOSUBDIR), beside it LMDB's lock file 00000.mdb-lock, which may be deleted while nobody uses
 * the store. A shard is made as .00000.mdb.new and renamed when it has its databases. A writer
 * holds an flock on the folder. Named databases of a shard:
 *
 *   samples  key: 8-byte big-endian index within the shard, from 0, no gaps. Value: one zstd frame
 *            with content size and checksum; inside it one safetensors blob:
 *              moments      F16 [2z, h, w]: mean, then log-variance of the autoencoder's posterior,
 *                           as its quant_conv gives them (not scaled, not clamped)
 *              embed        F32 or F16 [d], unit norm: the CLOOB image embed
 *              __metadata__ path (as given to the encoder), width, height (of the source,
 *                           turned upright if preprocessing does that; pixels, decimal). A path
 * that is not UTF-8 has each bad byte replaced by U+FFFD there, and all its bytes in hexadecimal as
 *                           path_bytes.
 *   paths    key: XXH3-128 of the path's bytes, canonical (big-endian). Value, 24 bytes,
 * big-endian: size of the file in bytes (8), its mtime in nanoseconds since 1970 (8, signed), index
 *            within the shard (8).
 *   meta     key "store" (5 bytes), value JSON, in every shard:
 *              format        "ccld-shards"
 *              version       1
 *              latent_shape  [z, h, w]
 *              embed_size    d
 *              embed_dtype   "F32" or "F16"
 *              image_size    [height, width] in pixels of what the autoencoder saw
 *              preprocessing "display" or "pil"
 *              autoencoder   {"name": file name, "hash": hexadecimal hash of its weights}
 *              cloob         likewise
 *              statistics    {"count", "mean", "mean_square"} of this shard's latents, see below
 *              finished      of the last shard: the last run came to the end of its list; of the
 *                            others: true
 * Records are in input order: shard after shard, index after index. A file that changed is encoded
 * again into its old place.
 *
 * Statistics are those of posterior samples x = mean + exp(clamp(logvar, -30, 20) / 2) * n, n
 * normal, in expectation over n and thus exact: count is the number of latent elements (records *
 * z*h*w), mean = average of E[x] = mean, mean_square = average of E[x^2] = mean^2 +
 * exp(clamp(logvar, -30, 20)), taken over the F16 values as stored. The scale factor of a latent
 * diffusion model is sqrt(mean_square - mean^2), counts weighting the shards. Replacing a record
 * takes its old contribution out.
 *
 * Reading a store in Python (lmdb, zstandard, safetensors):
 *
 *   import lmdb, pathlib, zstandard, safetensors.numpy as st
 *   for f in sorted(pathlib.Path("shards").glob("*.mdb")):
 *       env = lmdb.open(str(f), subdir=False, readonly=True, lock=False, max_dbs=3)
 *       for key, frame in env.begin(db=env.open_db(b"samples", create=False)).cursor():
 *           record = st.load(zstandard.decompress(frame))  # record["moments"], record["embed"]
 */

#define SHARD_VERSION      1
#define SHARD_SIZE_DEFAULT 65536 /* records */

struct shard_model {
    char name[128]; /* file name, for people */
    char hash[80];  /* hexadecimal; what is compared */
};

/* What all records of a store have in common. */
struct shard_info {
    int latent_channels, latent_height, latent_width; /* z, h, w */
    int embed_size;                                   /* d */
    enum dtype embed_dtype;                           /* DTYPE_F32 or DTYPE_F16 */
    int image_height, image_width;                    /* pixels */
    char preprocessing[24];                           /* "display" or "pil" */
    struct shard_model autoencoder, cloob;
};
size_t shard_latent_count(const struct shard_info *i); /* z*h*w */

/* Fails, naming both sides, where records of the one may not stand beside records of the other.
 * Names of model files may differ, hashes of their weights may not. */
int shard_info_check(const struct shard_info *store, const struct shard_info *other,
                     struct error *e);

struct latent_statistics {
    double count, mean, mean_square; /* count: latent elements; 0: all are 0 */
};
/* Adds (sign 1) or takes out (sign -1) one record's moments, F16 [2z, h, w]. */
void latent_statistics_add(struct latent_statistics *s, const struct shard_info *i,
                           const uint16_t *moments, int sign);
void latent_statistics_merge(struct latent_statistics *s, const struct latent_statistics *other);
/* sqrt(mean_square - mean^2); NaN for no records. */
double latent_statistics_scale(const struct latent_statistics *s);

/* One record, and memory that is used again for the next: one per thread. The pointers are valid
 * until the next read or the release. */
struct shard_record {
    const uint16_t *moments; /* F16 [2z, h, w] */
    const void *embed;       /* [d] of embed_dtype */
    const char *path;        /* its exact bytes */
    int width, height;       /* of the source, pixels */

    const uint8_t *blob; /* the safetensors blob behind all that */
    size_t blob_size;
    size_t blob_capacity;
    char *path_buffer;
    void *zstd;
};
void shard_record_init(struct shard_record *r);
void shard_record_release(struct shard_record *r);
/* Fails when a latent or embed element is infinite or NaN, or the embed's norm is not 1 (to 1%). */
int shard_record_check_values(const struct shard_record *r, const struct shard_info *i,
                              struct error *e);

/* Reading. A store may be read while it is written; what is seen are the records that were there
 * when it was opened. All functions but open and close may be called by several threads. */
struct shard_store;
int shard_store_open(struct shard_store **s, const char *folder, struct error *e);
void shard_store_close(struct shard_store *s); /* NULL is fine */
int64_t shard_store_count(const struct shard_store *s);
const struct shard_info *shard_store_info(const struct shard_store *s);
struct latent_statistics shard_store_statistics(const struct shard_store *s);
bool shard_store_finished(const struct shard_store *s);

struct shard_summary {
    const char *name; /* "00000.mdb" */
    int64_t count;    /* records */
    uint64_t bytes;   /* of the file */
    bool finished;
};
int shard_store_shards(const struct shard_store *s);
struct shard_summary shard_store_shard(const struct shard_store *s, int shard);
/* The shard, and the index within it, of record `index` of the store. */
int shard_store_locate(const struct shard_store *s, int64_t index, int64_t *index_in_shard);

/* Record 0 <= index < count: decompresses, checks the checksum and the shapes. An error names shard
 * and index. */
int shard_store_read(struct shard_store *s, int64_t index, struct shard_record *r, struct error *e);

/* Checks all of a store, as far as it can be opened: every frame and its checksum, every record's
 * shapes and values, keys without gaps, paths against samples in both directions, no path twice,
 * statistics. Calls problem for each fault with text that names shard and index. Returns their
 * number; *records: how many records were seen. progress may be NULL. */
int64_t shard_store_verify(const char *folder, void (*problem)(void *arg, const char *text),
                           void (*progress)(void *arg, int64_t done, int64_t total), void *arg,
                           int64_t *records);

/* Writing. lookup may be called by one thread while another puts. */
struct shard_writer;
struct shard_writer_options {
    int64_t shard_size; /* records of a shard; 0: SHARD_SIZE_DEFAULT */
    size_t map_size;    /* bytes of a new shard's map to begin with, grown as needed; 0: 64 MiB */
};
/* Makes the folder if need be; the first shard comes with the first record. Refuses a folder with
 * other things in it and no shards, a store that another writer has open, and one whose records may
 * not stand beside `info`'s. */
int shard_writer_open(struct shard_writer **w, const char *folder, const struct shard_info *info,
                      const struct shard_writer_options *options, struct error *e);

enum shard_path_state {
    SHARD_PATH_NEW,     /* not in the store */
    SHARD_PATH_DONE,    /* there, with the same size and mtime */
    SHARD_PATH_CHANGED, /* there, with another size or mtime */
};
int shard_writer_lookup(struct shard_writer *w, const char *path, int64_t size, int64_t mtime_ns,
                        enum shard_path_state *state, struct error *e);

struct shard_item {
    const char *path;
    int64_t size, mtime_ns; /* of the file, from before it was read */
    int width, height;
    const float *moments; /* [2z, h, w] */
    const float *embed;   /* [d] */
};
/* Fails for what may not be stored: elements that are not finite, as F16 where stored so, or an
 * embed whose norm is not 1 (to 1%). */
int shard_item_check(const struct shard_item *item, const struct shard_info *i, struct error *e);

/* Stores a batch: new paths at the end in their order, paths that are there already into their old
 * places. One transaction (per shard, where the batch touches more than one): after a crash a shard
 * has all of its part of the batch or nothing of it. No path may be twice in one batch. After an
 * error nothing that was committed before is lost, and the writer should be closed. */
int shard_writer_put(struct shard_writer *w, const struct shard_item *items, int n,
                     struct error *e);
/* Marks the store as finished (the run's list came to its end). */
int shard_writer_finish(struct shard_writer *w, struct error *e);
const struct shard_info *shard_writer_info(const struct shard_writer *w);
int64_t shard_writer_count(struct shard_writer *w); /* records in the store */
struct latent_statistics shard_writer_statistics(struct shard_writer *w);
void shard_writer_close(struct shard_writer *w); /* NULL is fine */

#endif
