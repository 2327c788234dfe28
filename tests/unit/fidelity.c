/* What looks at pictures for bench-fidelity: right on the small world's own pictures, and wrong on
 * what shows nothing or something else. */
#include <stdlib.h>
#include <string.h>

#include "tests/support/fidelity.h"
#include "tests/support/spoil.h"
#include "tests/support/tap.h"

#define PICTURES 500

struct tally {
    int pictures, shape, color, both;
};

/* Compares with what the caption of a picture says. */
static void judge(struct tally *t, const struct image *image, const char *caption)
{
    struct sighting s;
    enum shape shape;
    enum color color;
    if (!fidelity_parse(caption, &shape, &color)) {
        tap_ok(false, "one object in '%s'", caption);
        return;
    }
    fidelity_look(&s, image);
    t->pictures++;
    t->shape += s.shape == shape;
    t->color += s.color == color;
    t->both += s.shape == shape && s.color == color;
    if ((s.shape != shape || s.color != color) && t->pictures - t->both < 8)
        tap_diag("'%s': seen %s %s, overlap %.2f, distance %.2f%s%s", caption,
                 s.color < COLOR_COUNT ? color_names[s.color] : "no color",
                 s.shape < SHAPE_COUNT ? shape_names[s.shape] : "no shape", (double)s.overlap,
                 (double)s.distance, s.trouble ? ", " : "", s.trouble ? s.trouble : "");
}

static void draw(struct image *image, const struct shapes_scene *scene, int size)
{
    struct error e;
    if (shapes_draw(image, scene, size, &e) == 0)
        return;
    tap_ok(false, "drawing: %s", e.text);
    exit(tap_done());
}

/* The index of the next scene with `count` objects. */
static uint64_t next_scene(struct shapes_scene *scene, uint64_t index, int count, enum split split)
{
    do
        shapes_scene(scene, 77, index++, split);
    while (scene->count != count);
    return index;
}

static void test_own_pictures(enum split split, const char *name, int size, int pictures,
                              bool degraded)
{
    struct tally t = {0};
    uint64_t index = 0;
    for (int i = 0; i < pictures; i++) {
        struct shapes_scene scene;
        struct image image;
        char caption[CAPTION_MAX];
        index = next_scene(&scene, index, 1, split);
        shapes_caption(caption, &scene);
        draw(&image, &scene, size);
        if (degraded)
            spoil(&image, index);
        judge(&t, &image, caption);
        image_release(&image);
    }
    tap_diag("%s, %dx%d: shape %d, color %d, both %d of %d", name, size, size, t.shape, t.color,
             t.both, t.pictures);
    tap_ok(t.pictures == pictures && t.shape >= 0.99 * pictures, "%s, %dx%d: shapes", name, size,
           size);
    tap_ok(t.pictures == pictures && t.color >= 0.99 * pictures, "%s, %dx%d: colors", name, size,
           size);
}

/* The caption of the picture before: right only where both show the same. */
static void test_swapped(void)
{
    struct tally t = {0};
    struct shapes_scene scene;
    char caption[CAPTION_MAX];
    int same_shape = 0, same_color = 0;
    uint64_t index = next_scene(&scene, 0, 1, SPLIT_BOTH);
    for (int i = 0; i < 200; i++) {
        struct image image;
        struct shapes_object before = scene.objects[0];
        shapes_caption(caption, &scene);
        index = next_scene(&scene, index, 1, SPLIT_BOTH);
        same_shape += before.shape == scene.objects[0].shape;
        same_color += before.color == scene.objects[0].color;
        draw(&image, &scene, 64);
        enum shape shape;
        enum color color;
        struct sighting seen;
        fidelity_parse(caption, &shape, &color);
        fidelity_look(&seen, &image);
        t.shape += seen.shape == shape;
        t.color += seen.color == color;
        image_release(&image);
    }
    tap_ok(abs(t.shape - same_shape) <= 2, "swapped captions: %d shapes right, %d are the same",
           t.shape, same_shape);
    tap_ok(abs(t.color - same_color) <= 2, "swapped captions: %d colors right, %d are the same",
           t.color, same_color);
}

static void test_two_objects(void)
{
    int single = 0, phrases = 0;
    uint64_t index = 0;
    for (int i = 0; i < 100; i++) {
        struct shapes_scene scene;
        struct image image;
        struct sighting s;
        char caption[CAPTION_MAX];
        enum shape shape;
        enum color color;
        index = next_scene(&scene, index, 2, SPLIT_TRAIN);
        draw(&image, &scene, 64);
        shapes_caption(caption, &scene);
        phrases += fidelity_parse(caption, &shape, &color);
        fidelity_look(&s, &image);
        /* Of a large and a small one, the small one may pass for a speck. */
        single += s.shape != SHAPE_COUNT && scene.objects[0].size == scene.objects[1].size;
        image_release(&image);
    }
    tap_ok(single <= 2, "two objects of one size are not one (%d of 100 pictures)", single);
    tap_ok(phrases == 0, "captions of two objects are not about one");
}

static void test_nothing(void)
{
    struct image image;
    struct sighting s;
    struct error e;
    int seen = 0;
    if (image_new(&image, 64, 64, 3, 8, &e) < 0)
        exit(1);
    for (int level = 0; level < 256; level += 15) {
        memset(image.pixels, level, image_bytes(&image));
        fidelity_look(&s, &image);
        seen += s.shape != SHAPE_COUNT || s.color != COLOR_COUNT || !s.trouble;
    }
    tap_ok(seen == 0, "blank pictures show nothing (%d)", seen);

    seen = 0;
    for (int i = 0; i < 90; i++) {
        static const int grains[] = {1, 4, 16};
        fill_noise(&image, (uint64_t)i, grains[i % 3]);
        fidelity_look(&s, &image);
        seen += s.shape != SHAPE_COUNT && s.color != COLOR_COUNT;
    }
    tap_ok(seen <= 2, "noise shows nothing (%d of 90 pictures)", seen);
    image_release(&image);
}

static void test_other_kinds(void)
{
    struct shapes_scene scene;
    struct image rgb, deep;
    struct sighting a, b;
    struct error e;
    next_scene(&scene, 3, 1, SPLIT_TRAIN);
    draw(&rgb, &scene, 64);
    if (image_new(&deep, 64, 64, 4, 16, &e) < 0)
        exit(1);
    for (int i = 0; i < 64 * 64; i++)
        for (int c = 0; c < 4; c++)
            ((uint16_t *)deep.pixels)[4 * i + c] =
                c < 3 ? (uint16_t)(257 * rgb.pixels[3 * i + c]) : 65535;
    fidelity_look(&a, &rgb);
    fidelity_look(&b, &deep);
    tap_ok(!a.trouble && a.shape == b.shape && a.color == b.color, "16 bits with alpha look alike");
    image_release(&rgb);
    image_release(&deep);
}

static void test_parse(void)
{
    static const struct {
        const char *prompt;
        bool one;
    } cases[] = {
        {"a red circle", true},
        {"a large red circle on a green background", true},
        {"a red circle:3", true},
        {"a background fading from blue to pink with a red circle", true},
        {"a red circle and a blue star", false},
        {"a red, circle", false},
        {"a circle on a red background", false},
        {"a redd circle", false},
        {"a red circles", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum shape shape = SHAPE_COUNT;
        enum color color = COLOR_COUNT;
        bool one = fidelity_parse(cases[i].prompt, &shape, &color);
        tap_ok(one == cases[i].one && (!one || (shape == SHAPE_CIRCLE && color == COLOR_RED)),
               "prompt '%s'", cases[i].prompt);
    }
}

int main(void)
{
    test_parse();
    test_own_pictures(SPLIT_TRAIN, "train", 64, PICTURES, false);
    test_own_pictures(SPLIT_HOLDOUT, "holdout", 64, PICTURES, false);
    test_own_pictures(SPLIT_BOTH, "larger", 256, 50, false);
    test_own_pictures(SPLIT_BOTH, "blurred and noisy", 64, 200, true);
    test_swapped();
    test_two_objects();
    test_nothing();
    test_other_kinds();
    return tap_done();
}
