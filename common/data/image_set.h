#ifndef CCLD_DATA_IMAGE_SET_H
#define CCLD_DATA_IMAGE_SET_H

#include <stdbool.h>

#include "common/data/read_ahead.h"
#include "common/images/path_source.h"
#include "common/images/prepare.h"

/* What networks are trained on that see images: a list of image files, with captions or without.
 * A record is a file of the list, its number its place there, from 0; order and holding out are
 * those of common/data/order.h.
 *
 * A file that cannot be read is met by a warning, once, and the record at the next readable place
 * of the epoch's order is taken instead; held-out ones are left out. So what a step sees is a
 * function of the list and the files, wherever a run begins. */
struct image_set;

struct image_set_options {
    int height,
        width; /* pixels of an image: as ccld-encode makes it, prepare_square or prepare_cover */
    enum prepare_color color;
    int64_t max_pixels; /* of a file; 0: IMAGE_DEFAULT_MAX_PIXELS */
    int64_t holdout;    /* how many records are held out */
    bool captions;      /* wanted, see below */
    bool is_signed;     /* images in [-1, 1], else in [0, 1] */
    size_t cache_bytes; /* prepared images are kept until they fill so much */
};
#define IMAGE_SET_CACHE_DEFAULT ((size_t)512 << 20)

/* A line of the list is a path, or with captions a path, a tab and its caption; where there is no
 * tab the caption is what is in PATH.txt, without white space around it, or where that is not
 * there, in the file whose name has .txt in the place of PATH's extension. What has no caption is
 * left out with a warning. Paths become absolute. */
int image_set_open(struct image_set **s, struct path_source *list,
                   const struct image_set_options *o, struct error *e);
/* The list as a run keeps it, in a file of its folder: what image_set_save writes. */
int image_set_reopen(struct image_set **s, const char *file, const struct image_set_options *o,
                     struct error *e);
int image_set_save(const struct image_set *s, const char *file, struct error *e);
void image_set_close(struct image_set *s); /* NULL is fine */

const struct order *image_set_order(const struct image_set *s);
const struct image_set_options *image_set_options(const struct image_set *s);
const char *image_set_path(const struct image_set *s, int64_t record);
const char *image_set_caption(const struct image_set *s, int64_t record); /* NULL without */
/* 32 hex digits and a zero, of paths and captions in order. */
void image_set_hash(char hex[33], const struct image_set *s);
int64_t image_set_unreadable(const struct image_set *s); /* files that were met so far */

struct image_batch {
    int64_t n;
    int height, width;
    float *images;         /* [n, 3, height, width] */
    uint64_t *samples;     /* [n] numbers of the records that are there */
    const char **captions; /* [n], NULL without */
    struct batch_place at;
};

/* Batches of a run, decoded ahead by threads (0: one per core) and handed out in order. Fails at a
 * step where nothing can be read any more. flip: every other image, drawn by seed, step and
 * sample, is mirrored left to right. */
struct image_reader;
int image_reader_open(struct image_reader **r, struct image_set *s,
                      const struct batch_reader_options *o, bool flip, struct error *e);
void image_reader_close(struct image_reader *r); /* NULL is fine */
int image_reader_next(struct image_reader *r, const struct image_batch **b, struct error *e);
double image_reader_waited(const struct image_reader *r); /* seconds, as latent_reader_waited */

/* Those of n records that can be read, not mirrored: b->n may be smaller than n, even 0. b is
 * zeroed at first and used again; image_batch_release at last. */
void image_set_read(struct image_set *s, const int64_t *records, int64_t n, struct image_batch *b);
/* The same of held-out records number first .. first+n. */
void image_set_read_holdout(struct image_set *s, int64_t first, int64_t n, struct image_batch *b);
void image_batch_release(struct image_batch *b);

#endif
