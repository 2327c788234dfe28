#ifndef CCLD_ENCODE_PIPELINE_H
#define CCLD_ENCODE_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/images/path_source.h"
#include "formats/shards/shard_store.h"

/* The encoding pipeline: paths -> images -> latents and embeddings -> shard store. Its stages run
 * concurrently: one thread lists paths and asks the store which are already done, several decode
 * and prepare images, the calling thread runs the networks on batches, and one thread writes.
 * Bounded queues between them keep memory use independent of the length of the list. Records are
 * written in input order. */

/* What turns files into latents. */
struct encoder {
    void *context;
    /* Floats per file: the autoencoder's input [3, H, W], CLOOB's input [3, S, S], the moments
     * [2z, h, w] and the embedding [d]. */
    size_t image_floats, square_floats, moments_floats, embed_floats;
    /* Turns one file into both inputs and returns the source's size in pixels. Several threads call
     * it at once. note receives a warning, or "". */
    int (*prepare)(void *context, const char *path, float *image, float *square, int *width,
                   int *height, char note[128], struct error *e);
    /* The networks, in three calls per batch, so that a GPU computes while the next batch is being
     * assembled: load copies n inputs (the caller may overwrite them afterwards), run starts the
     * computation, fetch waits for the results of the last run. They are called in the order load,
     * run, load, fetch, run, ..., always by the thread that called encode_run. */
    int (*load)(void *context, int n, const float *images, const float *squares, struct error *e);
    int (*run)(void *context, struct error *e);
    int (*fetch)(void *context, float *moments, float *embeds, struct error *e);
};

struct encode_options {
    int batch_size, decode_threads;
    int stop_fd;   /* when it becomes readable, commit the current batches and stop; -1: none */
    FILE *rejects; /* receives the path of each file that failed; NULL: none */
    char rejects_separator;
    /* Only the paths of this part of the list are looked at, as path_part divides it; 0 <= part <
     * parts. parts 0 or 1: all paths. */
    int part, parts;
};

struct encode_counts {
    int64_t listed;     /* paths in the list, or in its part */
    int64_t other_part; /* paths of other parts */
    int64_t encoded;    /* added to the store */
    int64_t skipped;    /* already in the store */
    int64_t duplicates; /* repeated in the list */
    int64_t failed;
    int64_t bad_latents; /* failed because their latents or embeddings cannot be stored */
    bool interrupted;
};

/* Returns 0 if the whole list was processed (files that failed are reported as warnings) or stop_fd
 * ended the run; -1 if the store, the list, the rejects file or the networks failed. counts is
 * valid in every case. */
int encode_run(const struct encoder *encoder, struct path_source *paths, struct shard_writer *store,
               const struct encode_options *options, struct encode_counts *counts, struct error *e);

#endif
