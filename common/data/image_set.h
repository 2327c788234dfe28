#ifndef CCLD_DATA_IMAGE_SET_H
#define CCLD_DATA_IMAGE_SET_H

#include <stdbool.h>

#include "common/data/read_ahead.h"
#include "common/data/unreadable.h"
#include "common/images/path_source.h"
#include "common/images/prepare.h"

/* The data set of networks that train on images: a list of image files, with or without captions.
 * A record is a file in the list, numbered by its place from 0; common/data/order.h defines their
 * order and the held-out ones.
 *
 * A file that cannot be read causes one warning, and the record at the next readable place in the
 * epoch's order takes its place; an unreadable held-out file is left out. If the system is to blame
 * (READ_SYSTEM_FAILED, common/base/files.h), reading fails instead. So the data of a step
 * depends only on the list and the files, wherever a run begins. */
struct image_set;

struct image_set_options {
    int height, width; /* of an image, in pixels, made as by ccld-encode: prepare_square or
                          prepare_cover */
    enum prepare_color color;
    int64_t max_pixels; /* of a file; 0: IMAGE_DEFAULT_MAX_PIXELS */
    bool allow_truncated;
    int64_t holdout;         /* number of records to hold out */
    bool captions;           /* each image needs one, see below */
    const char *caption_key; /* of captions in .json files of archives; NULL: see captions.h */
    bool is_signed;          /* values in [-1, 1], else in [0, 1] */
    size_t cache_bytes;      /* most memory for prepared images, which are kept until it is full */
};
#define IMAGE_SET_CACHE_DEFAULT ((size_t)512 << 20)

/* The list names images, folders and archives (common/images/image_source.h). A line is a path or,
 * with captions, a path, a tab and the caption. Without a tab the caption is the content of
 * PATH.txt or, if there is no such file, of the file named like PATH but with the extension .txt;
 * of members of an archive, see struct caption_group in captions.h. An image without a caption is
 * left out with a warning, and other files in folders and archives are counted. Archives are
 * tar and zip files; compressed tars, whose members cannot be read in any order, are refused. Paths
 * become absolute, without repeated slashes and "." components; an image (with captions, a pair)
 * that is in the list again is left out, so that none is both held out and trained on, and one
 * warning says so. Copies and links are not recognized. */
int image_set_open(struct image_set **out, struct path_source *list,
                   const struct image_set_options *o, struct error *e);
/* Opens the list that image_set_save wrote to a file in a run's folder. */
int image_set_reopen(struct image_set **out, const char *file, const struct image_set_options *o,
                     struct error *e);
int image_set_save(const struct image_set *s, const char *file, struct error *e);
void image_set_close(struct image_set *s); /* NULL is fine */

const struct order *image_set_order(const struct image_set *s);
struct unreadable *image_set_unreadable(const struct image_set *s);
const struct image_set_options *image_set_options(const struct image_set *s);
const char *image_set_path(const struct image_set *s, int64_t record);
/* Writes the hash of paths and captions in order: 32 hex digits and a terminating zero. */
void image_set_hash(char hex[33], const struct image_set *s);

struct image_batch {
    int64_t n;
    int height, width;
    float *images;         /* [n, 3, height, width] */
    uint64_t *samples;     /* [n] numbers of the records used */
    const char **captions; /* [n], or NULL without captions; owned by the image set */
    struct batch_place at;
};

/* Reads a run's batches ahead in threads (0: one per core) and returns them in order. Fails at a
 * step for which no file can be read. flip: mirrors images left to right with probability 1/2, a
 * function of seed, step and sample. */
struct image_reader;
int image_reader_open(struct image_reader **out, struct image_set *s,
                      const struct batch_reader_options *o, bool flip, struct error *e);
void image_reader_close(struct image_reader *r); /* NULL is fine */
/* Bytes of host memory that a reader takes, the set's cache included. */
int64_t image_reader_memory(const struct image_set *s, const struct batch_reader_options *o);
/* *b is valid until the next call. */
int image_reader_next(struct image_reader *r, const struct image_batch **b, struct error *e);
double image_reader_waited(const struct image_reader *r); /* seconds, as latent_reader_waited */

/* Reads those of n records that can be read, without mirroring: b->n may be less than n, even 0.
 * Zero b before its first use; it may be reused. Release it with image_batch_release. */
int image_set_read(struct image_set *s, const int64_t *records, int64_t n, struct image_batch *b,
                   struct error *e);
/* The same for held-out records first .. first+n. */
int image_set_read_holdout(struct image_set *s, int64_t first, int64_t n, struct image_batch *b,
                           struct error *e);
void image_batch_release(struct image_batch *b);

#endif
