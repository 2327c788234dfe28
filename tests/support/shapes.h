#ifndef CCLD_TESTS_SHAPES_H
#define CCLD_TESTS_SHAPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "formats/images/image.h"
#include "tests/support/caption.h"
#include "tests/support/draws.h"

/* Generated images with captions: one or two objects of ten shapes and ten colors on a background.
 * Scene i of a seed is a pure function of (seed, i, split); so is its caption. */

enum shape {
    SHAPE_CIRCLE,
    SHAPE_SQUARE,
    SHAPE_TRIANGLE,
    SHAPE_STAR,
    SHAPE_HEART,
    SHAPE_MOON,
    SHAPE_CROSS,
    SHAPE_RING,
    SHAPE_DIAMOND,
    SHAPE_FLOWER,
    SHAPE_COUNT
};

enum color {
    COLOR_RED,
    COLOR_ORANGE,
    COLOR_YELLOW,
    COLOR_GREEN,
    COLOR_CYAN,
    COLOR_BLUE,
    COLOR_PURPLE,
    COLOR_PINK,
    COLOR_WHITE,
    COLOR_BLACK,
    COLOR_COUNT
};

/* Held-out combinations: never in an image of the training split, at least once in every image of
 * the holdout split. Each shape and each color is listed once, so training has its nine other
 * combinations. */
#define SHAPES_HELD_OUT(X)                                                                         \
    X(CIRCLE, PURPLE)                                                                              \
    X(SQUARE, PINK)                                                                                \
    X(TRIANGLE, BLUE)                                                                              \
    X(STAR, GREEN)                                                                                 \
    X(HEART, BLACK)                                                                                \
    X(MOON, ORANGE)                                                                                \
    X(CROSS, WHITE)                                                                                \
    X(RING, RED)                                                                                   \
    X(DIAMOND, YELLOW)                                                                             \
    X(FLOWER, CYAN)
bool shapes_held_out(enum shape shape, enum color color);

/* The words used in captions: "circle", "red". */
extern const char *const shape_names[SHAPE_COUNT + 1];
extern const char *const color_names[COLOR_COUNT + 1];
extern const uint8_t color_srgb[COLOR_COUNT][3]; /* before shading */

/* How tones fill the image. */
enum background_kind {
    BACKGROUND_PLAIN,    /* one tone */
    BACKGROUND_GRADIENT, /* tones[0] at the top to tones[1] at the bottom */
    BACKGROUND_GROUND,   /* sky from tones[0] to tones[1], ground from tones[2] to tones[3] */
};
struct background {
    enum background_kind kind;
    const char *colors[2]; /* the colors its words name, or NULL */
    const char *where;     /* "on a gray background": follows the objects */
    const char *with;      /* "a gray background with": precedes the objects */
    uint8_t tones[4][3];
};
#define BACKGROUND_PLAINS 7
#define BACKGROUND_COUNT  17
extern const struct background backgrounds[BACKGROUND_COUNT]; /* the plain ones come first */

/* Whether an object of this color stands out from all tones of the background and the mixtures of
 * them: by name, and by at least SHAPES_CONTRAST in oklab_distance. */
#define SHAPES_CONTRAST 0.185f
bool shapes_stands_out(enum color color, int background);

/* Captions tell an object's size unless it is medium, and a single object's place unless it is the
 * middle. */
enum shapes_size { SIZE_SMALL, SIZE_MEDIUM, SIZE_LARGE };
enum shapes_place {
    PLACE_MIDDLE,
    PLACE_TOP_LEFT,
    PLACE_TOP_RIGHT,
    PLACE_BOTTOM_LEFT,
    PLACE_BOTTOM_RIGHT,
    PLACE_COUNT
};

/* Lengths and positions are fractions of the image's side; y grows downwards. */
struct shapes_object {
    enum shape shape;
    enum color color;
    enum shapes_size size;
    float x, y, radius; /* only the shadow is drawn farther than radius from (x, y) */
    float angle;        /* radians */
    float tint;         /* -1 to 1: slightly darker or lighter than the palette */
};

struct shapes_scene {
    int count; /* of objects: 1 or 2 */
    struct shapes_object objects[2];
    enum shapes_place place; /* of a single object */
    enum relation relation;  /* of objects[0] to objects[1] */
    int background;          /* index into backgrounds */
    float slope;             /* of gradient or horizon */
    float horizon, phase;    /* height of the horizon, phase of its hills */
    int style;               /* selects the caption's wording */
    /* What the caption tells besides colors and shapes. */
    bool tells_size, tells_background, tells_relation;
};

void shapes_scene(struct shapes_scene *s, uint64_t seed, uint64_t index, enum split split);

void shapes_caption(char caption[CAPTION_MAX], const struct shapes_scene *s);

/* Draws an RGB image of size x size pixels, 8 bits per channel. The caller releases it. */
int shapes_draw(struct image *image, const struct shapes_scene *s, int size, struct error *e);

#endif
