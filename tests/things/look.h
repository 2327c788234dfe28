#ifndef CCLD_TESTS_THINGS_LOOK_H
#define CCLD_TESTS_THINGS_LOOK_H

#include "tests/things/sprites.h"
#include "tests/things/things.h"

/* Recognizes the things and the background of an image. Independent of how things_draw draws,
 * except for the font's bitmaps and the backgrounds' palette: the background is the one whose tones
 * the border shows, and the things are those whose bitmaps, at any place and size, mirrored or not
 * and slightly turned, explain most of what differs from the border's tones. */

struct look;

struct look *look_new(const struct sprites *sprites);
void look_free(struct look *l);

struct look_object {
    int thing;
    float x, y, extent; /* as in struct things_object */
    float gain;         /* in squared oklab_distance, over the pixels of a view */
    float explained;    /* 1: all that differs from the background there is this thing */
};

struct sighting_of_things {
    int scenery; /* or -1 */
    int count;   /* of objects: 0 to 2 */
    struct look_object objects[2];
};

/* The image may have any size and any kind except CMYK. Not for several threads at once. */
void look_at(struct sighting_of_things *s, struct look *l, const struct image *image);

/* How the first of two objects lies to the second. */
enum relation look_relation(const struct sighting_of_things *s);

#endif
