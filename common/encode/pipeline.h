#ifndef CCLD_ENCODE_PIPELINE_H
#define CCLD_ENCODE_PIPELINE_H

#include <signal.h>
#include <stdio.h>

#include "common/encode/tally.h"
#include "common/encode/unique.h"
#include "common/images/path_source.h"
#include "formats/shards/shard_store.h"

/* The encoding pipeline: paths -> images -> latents and embeddings -> shard store. Its stages run
 * concurrently: one thread lists paths and asks the store which are already done, several decode
 * and prepare images, the calling thread runs the networks on batches, and one thread writes.
 * Bounded queues between them keep memory use independent of the length of the list. Records are
 * written in input order. */

/* An image file, or a member of an archive. */
struct encode_file {
    const char *path;
    const uint8_t *data; /* its content */
    size_t size;
};

#define ENCODE_TRUNCATED 1
/* What turns files into latents. */
struct encoder {
    void *context;
    /* Floats per file: the autoencoder's input [3, H, W], CLOOB's input [3, S, S], the moments
     * [2z, h, w] and the embedding [d]. */
    size_t image_floats, square_floats, moments_floats, embed_floats;
    /* Turns one file into both inputs and returns the source's size in pixels. Several threads call
     * it at once. note receives a warning, or "". READ_SYSTEM_FAILED (common/base/files.h) ends the
     * run unless another try succeeds, ENCODE_TRUNCATED counts the file among those that are
     * encoded in part, other statuses reject it; one with IMAGE_UNKNOWN that was found in a folder
     * or an archive is left out. */
    int (*prepare)(void *context, const struct encode_file *file, float *image, float *square,
                   int *width, int *height, char note[128], struct error *e);
    /* Fills the thumbnail of a record from the first of both inputs; threads call it. NULL: records
     * get none. */
    void (*thumbnail)(void *context, uint8_t thumbnail[SHARD_THUMBNAIL_BYTES], const float *image);
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
    /* Looked at ten times a second: when it is not 0, commit the current batches and stop. NULL:
     * there is none. */
    const volatile sig_atomic_t *stop;
    FILE *rejects; /* receives the path of each file that failed; NULL: none */
    char rejects_separator;
    bool rejects_reasons; /* and a tab and the reason */
    /* Images whose bytes it has are left out, but for those of changed files, which replace their
     * records; those encoded are added to it. NULL: none are left out. */
    struct unique *unique;
    /* Only the paths of this part of the list are looked at, as path_part divides it; 0 <= part <
     * parts. parts 0 or 1: all paths. */
    int part, parts;
    struct encode_tally *tally; /* receives the counts as they change; NULL: none */
    int tally_part;
};

/* Bytes of host memory that the pipeline takes, besides the networks and the files it decodes. */
int64_t encode_memory(const struct encoder *encoder, const struct encode_options *options);

/* Returns 0 if the whole list was processed (files that failed are reported as warnings) or *stop
 * ended the run; -1 if the store, the list, the rejects file, the networks or the system failed:
 * then the files before the one that could not be read have been stored. counts is valid in every
 * case. */
int encode_run(const struct encoder *encoder, struct path_source *paths, struct shard_writer *store,
               const struct encode_options *options, struct encode_counts *counts, struct error *e);

#endif
