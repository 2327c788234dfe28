/* The world of things: what its splits hold, that captions name what is drawn, and that it can be
 * seen. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/text/clip_bpe.h"
#include "tests/support/tap.h"
#include "tests/things/things.h"

#define SCENES 20000

static bool begins_with_vowel(const char *word)
{
    static const char *const sounds[] = {"unicorn", "ufo"};
    for (size_t i = 0; i < sizeof sounds / sizeof *sounds; i++)
        if (!strcmp(word, sounds[i]))
            return false;
    return strchr("aeiou", word[0]) || !strncmp(word, "hour", 4);
}

static void test_names(void)
{
    int wrong = 0, twice = 0;
    for (int i = 0; i < 2 * THINGS; i++) {
        const char *name = i % 2 ? things[i / 2].synonym : things[i / 2].name;
        if (!name)
            continue;
        bool vowel = begins_with_vowel(strchr(name, ' ') + 1);
        wrong += strncmp(name, vowel ? "an " : "a ", vowel ? 3 : 2) != 0;
        for (int k = 0; k < i; k++) {
            const char *other = k % 2 ? things[k / 2].synonym : things[k / 2].name;
            twice += other && !strcmp(name, other);
        }
    }
    tap_ok(wrong == 0, "names have the right article (%d have not)", wrong);
    tap_ok(twice == 0, "no name has two meanings");
}

static void test_held_out_lists(void)
{
    int uneven = 0, pairs = 0, own = 0, most = 0;
    for (int i = 0; i < THINGS; i++) {
        int on = 0, with = 0;
        for (int k = 0; k < SCENERIES; k++)
            on += things_held_out_on(i, k);
        for (int k = 0; k < THINGS; k++) {
            with += things_held_out_pair(i, k);
            uneven += things_held_out_pair(i, k) != things_held_out_pair(k, i);
        }
        uneven += on != 1;
        own += things_held_out_pair(i, i);
        pairs += with;
        most = with > most ? with : most;
    }
    for (int k = 0; k < SCENERIES; k++) {
        int on = 0;
        for (int i = 0; i < THINGS; i++)
            on += things_held_out_on(i, k);
        uneven += on != THINGS / SCENERIES;
    }
    tap_ok(uneven == 0 && own == 0, "each thing is held out of one background, each of 16 things");
    tap_ok(most == 16 && pairs > 15 * THINGS, "and of pairs with one other in 16");
}

static bool has_held_out(const struct things_scene *s)
{
    for (int i = 0; i < s->count; i++)
        if (things_held_out_on(s->objects[i].thing, s->scenery))
            return true;
    return s->count == 2 && things_held_out_pair(s->objects[0].thing, s->objects[1].thing);
}

static void test_splits(void)
{
    static int seen[THINGS][SCENERIES];
    int wrong = 0, holdout_wrong = 0, both = 0, missing = 0, same = 0;
    for (uint64_t i = 0; i < 10 * SCENES; i++) {
        struct things_scene s;
        things_scene(&s, 5, i, SPLIT_TRAIN);
        wrong += has_held_out(&s);
        for (int k = 0; k < s.count; k++)
            seen[s.objects[k].thing][s.scenery]++;
        same += s.count == 2 && s.objects[0].thing == s.objects[1].thing;
        if (i >= SCENES)
            continue;
        things_scene(&s, 5, i, SPLIT_HOLDOUT);
        holdout_wrong += !has_held_out(&s);
        things_scene(&s, 5, i, SPLIT_BOTH);
        both += has_held_out(&s);
    }
    for (int i = 0; i < THINGS; i++)
        for (int k = 0; k < SCENERIES; k++)
            missing += !things_held_out_on(i, k) && seen[i][k] < 20;
    tap_ok(wrong == 0, "nothing that is held out is in training");
    tap_ok(holdout_wrong == 0, "each image of holdout has something that is held out");
    tap_ok(both > SCENES / 20 && both < SCENES / 5, "of both, some have (%d of %d)", both, SCENES);
    tap_ok(missing == 0 && same == 0, "training has all other things on all backgrounds");
}

/* Whether the caption has this thing, by one of its names, without the article. */
static bool is_named(const char *caption, const struct things_scene *s, int i)
{
    const struct thing *t = &things[s->objects[i].thing];
    const char *name = s->synonym[i] && t->synonym ? t->synonym : t->name;
    return strstr(caption, strchr(name, ' ')) != NULL;
}

static bool is_sized(const char *caption, const struct things_scene *s)
{
    bool small = strstr(caption, "a small ") || strstr(caption, "a little ");
    bool large = strstr(caption, "a large ") || strstr(caption, "a big ");
    return s->tells_size ? (s->size == SIZE_ONE_SMALL ? small : large) : !small && !large;
}

/* The background's words come first or last. */
static bool is_placed(const char *caption, const struct things_scene *s)
{
    const struct scenery *b = &sceneries[s->scenery];
    bool told = !strncmp(caption, b->with, strlen(b->with));
    for (int k = 0; k < 2; k++) {
        size_t n = strlen(caption), length = strlen(b->where[k]);
        told = told || (n > length && !strcmp(caption + n - length, b->where[k]));
    }
    return told == s->tells_scenery;
}

/* The model's context and vocabulary are those of pipelines/things.mk. */
static void test_captions(void)
{
    enum { CONTEXT = 40, VOCABULARY = 2048 };
    struct clip_bpe *bpe;
    struct error e;
    size_t longest = 0;
    int malformed = 0, unnamed = 0, unsized = 0, unplaced = 0;
    if (clip_bpe_new(&bpe, VOCABULARY, &e) < 0)
        exit(1);
    for (uint64_t i = 0; i < SCENES; i++) {
        struct things_scene s;
        char caption[CAPTION_MAX];
        int32_t *ids;
        things_scene(&s, 11, i, SPLIT_BOTH);
        things_caption(caption, &s);
        size_t n = clip_bpe_encode(bpe, caption, strlen(caption), &ids);
        longest = n > longest ? n : longest;
        free(ids);
        malformed += strspn(caption, "abcdefghijklmnopqrstuvwxyz- ") != strlen(caption) ||
                     strstr(caption, "  ") || caption[strlen(caption) - 1] == ' ';
        for (int k = 0; k < s.count; k++)
            unnamed += !is_named(caption, &s, k);
        unsized += !is_sized(caption, &s);
        unplaced += !is_placed(caption, &s);
    }
    clip_bpe_free(bpe);
    tap_ok(malformed == 0, "captions are lower-case words");
    tap_ok(unnamed == 0, "and name what is drawn");
    tap_ok(unsized == 0 && unplaced == 0, "its size and background or nothing of them (%d, %d)",
           unsized, unplaced);
    tap_ok(longest + 2 <= CONTEXT, "%zu tokens at most", longest);
}

/* Whether the pair's words are right of where its things are. */
static void test_relations(void)
{
    int wrong = 0, told = 0;
    for (uint64_t i = 0; i < SCENES; i++) {
        struct things_scene s;
        char caption[CAPTION_MAX];
        things_scene(&s, 12, i, SPLIT_TRAIN);
        things_caption(caption, &s);
        if (s.count == 1)
            continue;
        float right = s.objects[1].x - s.objects[0].x, down = s.objects[1].y - s.objects[0].y;
        const enum relation is = fabsf(right) > fabsf(down) ? (right > 0 ? LEFT_OF : RIGHT_OF)
                                                            : (down > 0 ? ABOVE : BELOW);
        wrong += is != s.relation;
        for (int w = 0; w < 2; w++)
            told += strstr(caption, relation_words[w][s.relation]) ||
                    strstr(caption, relation_words[w][relation_turned[s.relation]]);
    }
    tap_ok(wrong == 0 && told > SCENES / 4, "things lie as the scene says (%d captions tell)",
           told);
}

static void must_draw(struct image *image, const struct things_scene *s,
                      const struct sprites *sprites)
{
    struct error e;
    if (things_draw(image, s, sprites, 64, &e) == 0)
        return;
    tap_ok(false, "drawing: %s", e.text);
    exit(tap_done());
}

static void test_determinism(const struct sprites *sprites)
{
    int differ = 0, same = 0;
    for (uint64_t i = 0; i < 100; i++) {
        struct things_scene a, b, other;
        struct image x, y;
        char caption[CAPTION_MAX], again[CAPTION_MAX];
        things_scene(&a, 9, i, SPLIT_TRAIN);
        things_scene(&other, 10, i, SPLIT_TRAIN);
        things_scene(&b, 9, i, SPLIT_TRAIN);
        things_caption(caption, &a);
        things_caption(again, &b);
        must_draw(&x, &a, sprites);
        must_draw(&y, &b, sprites);
        differ += strcmp(caption, again) != 0 || memcmp(x.pixels, y.pixels, image_bytes(&x)) != 0;
        things_caption(again, &other);
        same += !strcmp(caption, again);
        image_release(&x);
        image_release(&y);
    }
    tap_ok(differ == 0, "the same again");
    tap_ok(same < 3, "another seed makes other captions (%d of 100 the same)", same);
}

/* The share of a large thing's square that differs visibly from the background. */
static float visible_share(const struct things_scene *s, const struct sprites *sprites)
{
    struct things_scene empty = *s;
    struct image with, without;
    int n = 0;
    empty.count = 0;
    must_draw(&with, s, sprites);
    must_draw(&without, &empty, sprites);
    for (int i = 0; i < 64 * 64; i++) {
        int most = 0;
        for (int c = 0; c < 3; c++) {
            int d = abs(with.pixels[3 * i + c] - without.pixels[3 * i + c]);
            most = d > most ? d : most;
        }
        n += most > 12;
    }
    image_release(&with);
    image_release(&without);
    float side = 64 * s->objects[0].extent;
    return (float)n / (side * side);
}

static void test_visible(const struct sprites *sprites)
{
    float least = 1;
    struct things_scene worst = {0};
    for (int i = 0; i < THINGS * SCENERIES; i++) {
        struct things_scene s = {.count = 1,
                                 .scenery = i % SCENERIES,
                                 .horizon = 0.6f,
                                 .details = {.purpose = RNG_THINGS}};
        s.objects[0] =
            (struct things_object){.thing = i / SCENERIES, .x = 0.5f, .y = 0.5f, .extent = 0.7f};
        float share = visible_share(&s, sprites);
        if (share < least) {
            least = share;
            worst = s;
        }
    }
    tap_ok(least > 0.1f, "every thing can be seen on every background; least: %.2f, %s, %s",
           (double)least, things[worst.objects[0].thing].name, sceneries[worst.scenery].name);
}

int main(void)
{
    struct sprites *sprites;
    struct error e;
    test_names();
    test_held_out_lists();
    test_splits();
    test_captions();
    test_relations();
    if (access(SPRITES_FONT, R_OK) < 0) {
        tap_skip("no " SPRITES_FONT, "drawing");
        return tap_done();
    }
    if (!tap_ok(sprites_open(&sprites, SPRITES_FONT, &e) == 0, "the font has all things"))
        return tap_done();
    test_determinism(sprites);
    test_visible(sprites);
    sprites_free(sprites);
    tap_ok(sprites_open(&sprites, "/dev/null", &e) < 0, "a file that is no font: %s", e.text);
    return tap_done();
}
