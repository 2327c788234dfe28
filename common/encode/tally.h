#ifndef CCLD_ENCODE_TALLY_H
#define CCLD_ENCODE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/shards/shard_store.h"

/* Why files failed; the last reason stands for all others. */
#define ENCODE_REASONS 8
struct encode_reason {
    char text[56];
    int64_t count; /* 0: not used */
};

struct encode_counts {
    int64_t listed;     /* paths in the list, or in its part */
    int64_t other_part; /* paths of other parts */
    int64_t encoded;    /* added to the store */
    int64_t truncated;  /* encoded, or about to be, with pixels missing */
    int64_t skipped;    /* already in the store */
    int64_t repeated;   /* repeated in the list */
    int64_t duplicates; /* left out because of their bytes */
    int64_t orphans;    /* of these, those whose record has been replaced since */
    int64_t failed;
    int64_t others;      /* files in folders and archives that are not images; not in `listed` */
    int64_t links;       /* in folders and archives; not in `listed` */
    int64_t unread;      /* folders and archives not read to their ends, and missing arguments */
    int64_t bad_latents; /* failed because their latents or embeddings cannot be stored */
    bool interrupted;
    bool list_failed; /* the list itself could not be read */
    struct encode_reason reasons[ENCODE_REASONS];
};

/* Counts n more failed files. */
void encode_count_failed(struct encode_counts *c, const char *reason, int64_t n);

/* The counts of all parts of a list, in memory shared with processes that are forked later. Any of
 * them may call the functions. */
struct encode_tally;

struct encode_state {
    struct encode_counts counts;
    int64_t expected; /* files to encode, as far as known; -1: unknown */
    bool ended;
    /* Of the store, once the part has ended. */
    int64_t records;
    struct latent_statistics statistics;
};

struct encode_tally *encode_tally_new(int parts);
/* This process shows the progress of all, if it is not quiet; to be called after forking. */
void encode_tally_show_progress(struct encode_tally *t);
void encode_tally_put(struct encode_tally *t, int part, const struct encode_state *s);
/* Over all parts: sums, and whether all have ended or any was interrupted. */
struct encode_state encode_tally_sum(struct encode_tally *t);
/* Returns when all parts have ended. */
void encode_tally_wait(struct encode_tally *t);
void encode_tally_free(struct encode_tally *t); /* erases the progress */

#endif
