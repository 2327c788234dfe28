/* What looks at images of things for bench-things: right on the generator's own images, and finds
 * nothing where there is nothing. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/spoil.h"
#include "tests/support/tap.h"
#include "tests/things/look.h"
#include "tests/things/prompt.h"

struct tally {
    int images, scenery, things, all;
};

static void describe(const char *caption, const struct sighting_of_things *s)
{
    tap_diag("'%s': seen %d, %s %.2f, %s %.2f, %s", caption, s->count,
             things[s->objects[0].thing].name, (double)s->objects[0].explained,
             things[s->objects[1].thing].name, (double)s->objects[1].explained,
             s->scenery < 0 ? "no background" : sceneries[s->scenery].name);
}

/* Compares with what is drawn. */
static void judge(struct tally *t, struct look *l, const struct image *image,
                  const struct things_scene *scene)
{
    struct sighting_of_things s;
    char caption[CAPTION_MAX];
    look_at(&s, l, image);
    bool turned = scene->count == 2 && s.objects[0].thing == scene->objects[1].thing;
    bool found = s.count == scene->count && s.objects[0].thing == scene->objects[turned].thing;
    if (scene->count == 2)
        found = found && s.objects[1].thing == scene->objects[!turned].thing &&
                look_relation(&s) == (turned ? relation_turned[scene->relation] : scene->relation);
    t->images++;
    t->scenery += s.scenery == scene->scenery;
    t->things += found;
    t->all += found && s.scenery == scene->scenery;
    if ((!found || s.scenery != scene->scenery) && t->images - t->all < 12) {
        things_caption(caption, scene);
        tap_diag("on %s:", sceneries[scene->scenery].name);
        describe(caption, &s);
    }
}

static void draw(struct image *image, const struct things_scene *scene,
                 const struct sprites *sprites)
{
    struct error e;
    if (things_draw(image, scene, sprites, 64, &e) == 0)
        return;
    tap_ok(false, "drawing: %s", e.text);
    exit(tap_done());
}

static void test_own_images(struct look *l, const struct sprites *sprites, int count, int images,
                            bool spoiled)
{
    struct tally t = {0};
    for (uint64_t i = 0; t.images < images; i++) {
        struct things_scene scene;
        struct image image;
        things_scene(&scene, 77, i, SPLIT_BOTH);
        if (scene.count != count)
            continue;
        draw(&image, &scene, sprites);
        if (spoiled)
            spoil(&image, i);
        judge(&t, l, &image, &scene);
        image_release(&image);
    }
    tap_ok(t.all >= 0.99 * images, "%d in a scene%s: things %d, background %d, both %d of %d",
           count, spoiled ? ", blurred and noisy" : "", t.things, t.scenery, t.all, images);
}

static void test_nothing(struct look *l)
{
    struct image image;
    struct sighting_of_things s;
    struct error e;
    int seen = 0;
    if (image_new(&image, 64, 64, 3, 8, &e) < 0)
        exit(1);
    for (int level = 0; level < 256; level += 15) {
        memset(image.pixels, level, image_bytes(&image));
        look_at(&s, l, &image);
        seen += s.count;
    }
    tap_ok(seen == 0, "blank images show nothing (%d)", seen);

    seen = 0;
    for (int i = 0; i < 12; i++) {
        static const int grains[] = {1, 4, 16};
        fill_noise(&image, (uint64_t)i, grains[i % 3]);
        look_at(&s, l, &image);
        seen += s.count + (s.scenery >= 0);
        if (s.count > 0)
            describe("noise", &s);
    }
    tap_ok(seen == 0, "noise shows nothing (%d)", seen);
    image_release(&image);
}

/* A background alone. */
static void test_empty(struct look *l, const struct sprites *sprites)
{
    int seen = 0, right = 0;
    for (int i = 0; i < 2 * SCENERIES; i++) {
        struct things_scene scene;
        struct sighting_of_things s;
        struct image image;
        things_scene(&scene, 79, (uint64_t)i, SPLIT_BOTH);
        scene.count = 0;
        scene.scenery = i % SCENERIES;
        draw(&image, &scene, sprites);
        look_at(&s, l, &image);
        if (s.count > 0)
            describe(sceneries[scene.scenery].name, &s);
        seen += s.count;
        right += s.scenery == scene.scenery;
        image_release(&image);
    }
    tap_ok(seen == 0 && right == 2 * SCENERIES, "a background alone shows no thing (%d, %d right)",
           seen, right);
}

/* Prompts are read as captions are written. */
static void test_parse(void)
{
    int wrong = 0;
    struct things_wanted w;
    for (uint64_t i = 0; i < 20000; i++) {
        struct things_scene s;
        char caption[CAPTION_MAX];
        things_scene(&s, 15, i, SPLIT_BOTH);
        things_caption(caption, &s);
        bool read = things_parse(&w, caption) && w.count == s.count &&
                    w.scenery == (s.tells_scenery ? s.scenery : -1);
        bool turned = s.count == 2 && w.things[0] == s.objects[1].thing;
        for (int k = 0; k < s.count; k++)
            read = read && w.things[k] == s.objects[k ^ (int)turned].thing;
        if (s.tells_relation)
            read = read && w.relation == (int)(turned ? relation_turned[s.relation] : s.relation);
        else
            read = read && w.relation < 0;
        if (!read && ++wrong < 8)
            tap_diag("'%s': %d of %s, %s, %d, %d", caption, w.count, things[w.things[0]].name,
                     things[w.things[1]].name, w.relation, w.scenery);
    }
    tap_ok(wrong == 0, "what captions say is read from them (%d are misread)", wrong);
    tap_ok(!things_parse(&w, "") && !things_parse(&w, "a zebras under the stars") &&
               !things_parse(&w, "a zebra, a pear and a fox"),
           "no thing, or three, are not judged");
}

/* An argument is the number of images of each kind. */
int main(int argc, char **argv)
{
    struct sprites *sprites;
    struct error e;
    int images = argc > 1 ? atoi(argv[1]) : 12;
    test_parse();
    if (access(SPRITES_FONT, R_OK) < 0) {
        tap_skip("no " SPRITES_FONT, "looking");
        return tap_done();
    }
    if (!tap_ok(sprites_open(&sprites, SPRITES_FONT, &e) == 0, "the font has all things"))
        return tap_done();
    struct look *l = look_new(sprites);
    test_nothing(l);
    test_empty(l, sprites);
    for (int count = 1; count <= 2; count++)
        test_own_images(l, sprites, count, images, false);
    test_own_images(l, sprites, 1, images, true);
    look_free(l);
    sprites_free(sprites);
    return tap_done();
}
