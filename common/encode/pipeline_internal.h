#ifndef CCLD_ENCODE_PIPELINE_INTERNAL_H
#define CCLD_ENCODE_PIPELINE_INTERNAL_H

#include <pthread.h>

#include "common/base/complaints.h"
#include "common/encode/pipeline.h"
#include "common/images/image_source.h"

/* Shared by pipeline.c and the files of its stages. */

#define BATCHES 3 /* one being assembled, one in the networks, one being written */

/* A file between the list and the networks. */
struct slot {
    bool done;  /* decoded, or failed */
    bool found; /* in a folder or an archive */
    /* 0, ENCODE_TRUNCATED, PIPELINE_DUPLICATE, READ_SYSTEM_FAILED, or another one: a bad file */
    int status;
    char *path;
    uint8_t *data; /* until it is decoded; of a file, NULL before it is read */
    size_t data_size;
    int64_t size, mtime_ns;
    uint8_t hash[CONTENT_HASH_SIZE];
    struct shard_path_found old; /* the record of the path, which is to be replaced, if any */
    int width, height;
    float *image, *square;
    uint8_t thumbnail[SHARD_THUMBNAIL_BYTES];
    struct error error;
};

/* The image may have to be left out, and has not been decoded. */
#define PIPELINE_DUPLICATE 2

struct batch {
    int n;
    struct shard_item *items; /* paths are owned */
    uint8_t (*hashes)[CONTENT_HASH_SIZE];
    float *moments, *embeds;
    uint8_t (*thumbnails)[SHARD_THUMBNAIL_BYTES];
};

struct pipeline {
    const struct encoder *encoder;
    const struct encode_options *options;
    struct image_source *files;
    struct shard_writer *store;
    int64_t expected; /* files in the list, -1: unknown */
    int wake[2];      /* pipe that becomes readable on stopping, for threads that wait in poll() */

    pthread_mutex_t mutex; /* guards everything below */
    pthread_cond_t room;   /* a slot is free */
    pthread_cond_t work;   /* a slot is ready to decode, or no more will come */
    pthread_cond_t ready;  /* a slot is done, a batch is free, or the list has ended */
    pthread_cond_t full;   /* a batch is ready to write, or no more will come */
    bool stop;             /* take no more files */
    bool failed;           /* give up; error says why */
    bool list_ended, batches_ended;
    struct error error;
    struct encode_counts counts;
    struct complaints *complaints;

    /* Files are numbered in input order; file i uses slot i % slot_count.
     * taken <= decoding <= filled, and filled - taken <= slot_count. */
    struct slot *slots;
    int64_t slot_count, filled, decoding, taken;

    struct batch batches[BATCHES];
    int64_t submitted, written; /* counts of batches; number i is batches[i % BATCHES] */

    float *images, *squares; /* the networks' inputs */
};

/* Ends all stages; the first error is the one reported. */
void pipeline_fail(struct pipeline *p, const struct error *e);
/* Called with the mutex held: tells the tally. */
void pipeline_put_counts(struct pipeline *p);
/* Counts a file in a folder or an archive that is not to be encoded. counter: counts.others or
 * counts.links. */
void pipeline_leave_out(struct pipeline *p, int64_t *counter);
/* Turns the bytes of a file into the networks' inputs. Returns its status. */
int pipeline_prepare(struct pipeline *p, struct slot *s);
/* The stage that lists files, a thread's function. arg: struct pipeline. */
void *pipeline_list_stage(void *arg);
/* Stages that read and decode files, likewise. */
void *pipeline_decode_stage(void *arg);

#endif
