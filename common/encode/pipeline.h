#ifndef CCLD_ENCODE_PIPELINE_H
#define CCLD_ENCODE_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/images/path_source.h"
#include "formats/shards/shard_store.h"

/* The encoding pipeline: paths -> images -> latents and embeds -> shard store. Its stages run at
 * the same time: one thread lists paths and asks the store which are done, several decode and
 * prepare images, the caller's runs the networks on batches, one writes. Between them are bounded
 * queues, so memory does not grow with the list; records are in input order. */

/* What makes latents of files. width and height below are of the source, in pixels. */
struct encoder {
    void *context;
    size_t picture_count; /* floats of an autoencoder input, 3*H*W */
    size_t square_count;  /* floats of a CLOOB input, 3*S*S */
    size_t moments_count; /* 2z*h*w */
    size_t embed_count;   /* d */
    /* One file into both inputs. Called by many threads at once. A warning, "" for none, goes into
     * note. */
    int (*prepare)(void *context, const char *path, float *picture, float *square, int *width,
                   int *height, char note[128], struct error *e);
    /* The networks, in three calls per batch so that a GPU works while the next batch is put
     * together: load takes n inputs (they may be overwritten when it returns), run begins with
     * them, fetch waits for what the last run makes. In the order load, run, load, fetch, run ...;
     * all by the thread that called encode_run. */
    int (*load)(void *context, int n, const float *pictures, const float *squares, struct error *e);
    int (*run)(void *context, struct error *e);
    int (*fetch)(void *context, float *moments, float *embeds, struct error *e);
};

struct encode_options {
    int batch_size, decode_threads;
    int stop_fd;   /* once readable: no new batch, commit what is under way. -1: none */
    FILE *rejects; /* gets the path of each file that failed; NULL: none */
    char rejects_separator;
};

struct encode_counts {
    int64_t listed;     /* paths in the list */
    int64_t encoded;    /* put into the store */
    int64_t skipped;    /* there already */
    int64_t duplicates; /* in the list before */
    int64_t failed;
    int64_t bad_latents; /* of those: files whose latents or embeds could not be stored */
    bool interrupted;
};

/* Returns 0 when the list was worked through, files that failed (a warning each) included, or when
 * stop_fd ended it; -1 when it could not go on: the store, the list, the rejects file or the
 * networks failed. counts are right in every case. */
int encode_run(const struct encoder *encoder, struct path_source *paths, struct shard_writer *store,
               const struct encode_options *options, struct encode_counts *counts, struct error *e);

#endif
