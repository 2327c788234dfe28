#ifndef CCLD_TESTS_THINGS_H
#define CCLD_TESTS_THINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "formats/images/image.h"
#include "tests/support/caption.h"
#include "tests/support/draws.h"
#include "tests/things/sprites.h"

/* Generated images with captions: one or two things, drawn from the bitmaps of a color font, on a
 * background. Scene i of a seed is a pure function of (seed, i, split); so is its caption. */

enum thing_kind {
    THING_ANIMAL,
    THING_PLANT,
    THING_FOOD,
    THING_VEHICLE,
    THING_BUILDING,
    THING_WEATHER,
    THING_FACE,
    THING_TOOL,
    THING_KINDS
};
extern const char *const thing_kinds[THING_KINDS]; /* "animals" */

#define THINGS 256
struct thing {
    uint32_t code;       /* the character in the font */
    const char *name;    /* with its article: "a zebra" */
    const char *synonym; /* of no other thing, or NULL */
    enum thing_kind kind;
};
extern const struct thing things[THINGS];

/* How tones fill the image. */
enum scenery_kind {
    SCENERY_PLAIN,    /* one tone */
    SCENERY_GRADIENT, /* tones[0] at the top to tones[1] in the middle to tones[2] at the bottom */
    SCENERY_GROUND,   /* sky from tones[0] to tones[1], ground from tones[2] to tones[3] */
};
enum scenery_detail { DETAIL_NONE, DETAIL_STARS, DETAIL_FLAKES, DETAIL_WAVES };
struct scenery {
    enum scenery_kind kind;
    enum scenery_detail detail;
    const char *name;     /* "pink", "snow" */
    const char *where[2]; /* "on a pink background", "on pink": follow the things */
    const char *with;     /* "a pink background with": precedes the things */
    uint8_t tones[4][3];
};
#define SCENERIES 16
extern const struct scenery sceneries[SCENERIES];

/* Held-out combinations: never in an image of the training split, at least one in every image of
 * the holdout split. Of every thing, one background in 16 and one other thing in 16; of every
 * background, 16 things. */
bool things_held_out_on(int thing, int scenery);
bool things_held_out_pair(int one, int other);

/* Lengths and positions are fractions of the image's side; y grows downwards. */
struct things_object {
    int thing;
    float x, y;   /* center of the bitmap's opaque part */
    float extent; /* the longer side of it */
    float angle;  /* radians */
    bool mirrored;
};

enum things_size { SIZE_ONE_SMALL, SIZE_ONE_LARGE };
struct things_scene {
    int count; /* of objects: 1 or 2 */
    struct things_object objects[2];
    enum things_size size;  /* of a single object */
    enum relation relation; /* of objects[0] to objects[1] */
    int scenery;
    float slope;          /* of gradient or horizon */
    float horizon, phase; /* height of the horizon, phase of its hills */
    float shade;          /* -1 to 1: slightly darker or lighter tones */
    struct draws details; /* of stars and flakes */
    int style;            /* selects the caption's wording */
    bool synonym[2];      /* which objects have their second name */
    bool tells_size, tells_scenery, tells_relation;
};

void things_scene(struct things_scene *s, uint64_t seed, uint64_t index, enum split split);
void things_caption(char caption[CAPTION_MAX], const struct things_scene *s);

/* Draws an RGB image of size x size pixels, 8 bits per channel. The caller releases it. */
int things_draw(struct image *image, const struct things_scene *s, const struct sprites *sprites,
                int size, struct error *e);

#endif
