/* The small world: what its splits hold, that pictures show what captions say and nothing hides. */
#include <stdlib.h>
#include <string.h>

#include "formats/text/clip_bpe.h"
#include "tests/support/shapes.h"
#include "tests/support/tap.h"

#define SCENES 20000

static bool has_held_out(const struct shapes_scene *s)
{
    for (int i = 0; i < s->count; i++)
        if (shapes_held_out(s->objects[i].shape, s->objects[i].color))
            return true;
    return false;
}

static void test_held_out_list(void)
{
    int shapes[SHAPE_COUNT] = {0}, colors[COLOR_COUNT] = {0}, uneven = 0;
    for (int s = 0; s < SHAPE_COUNT; s++)
        for (int c = 0; c < COLOR_COUNT; c++)
            if (shapes_held_out((enum shape)s, (enum color)c)) {
                shapes[s]++;
                colors[c]++;
            }
    for (int i = 0; i < SHAPE_COUNT; i++)
        uneven += shapes[i] != 1;
    for (int i = 0; i < COLOR_COUNT; i++)
        uneven += colors[i] != 1;
    tap_ok(uneven == 0, "each shape and each color is held out once");
}

static void test_splits(void)
{
    int seen[SHAPE_COUNT][COLOR_COUNT] = {0}, wrong = 0, missing = 0, hidden = 0, outside = 0;
    int holdout_wrong = 0, both = 0;
    for (uint64_t i = 0; i < SCENES; i++) {
        struct shapes_scene s;
        shapes_scene(&s, 5, i, SPLIT_HOLDOUT);
        holdout_wrong += !has_held_out(&s);
        shapes_scene(&s, 5, i, SPLIT_BOTH);
        both += has_held_out(&s);
        shapes_scene(&s, 5, i, SPLIT_TRAIN);
        wrong += has_held_out(&s);
        for (int j = 0; j < s.count; j++) {
            const struct shapes_object *o = &s.objects[j];
            seen[o->shape][o->color]++;
            hidden += !shapes_stands_out(o->color, s.background);
            outside += o->x - o->radius < 0.02f || o->x + o->radius > 0.98f ||
                       o->y - o->radius < 0.02f || o->y + o->radius > 0.98f;
        }
    }
    for (int i = 0; i < SHAPE_COUNT * COLOR_COUNT; i++) {
        enum shape shape = (enum shape)(i / COLOR_COUNT);
        enum color color = (enum color)(i % COLOR_COUNT);
        missing += !shapes_held_out(shape, color) && seen[shape][color] < SCENES / 400;
    }
    tap_ok(wrong == 0, "nothing that is held out is in training");
    tap_ok(missing == 0, "all other combinations are, about equally often");
    tap_ok(holdout_wrong == 0, "every scene of the holdout split has a held-out combination");
    tap_ok(both > SCENES / 20 && both < SCENES / 4, "with both splits, some have (%d of %d)", both,
           SCENES);
    tap_ok(hidden == 0, "every object stands out from its background");
    tap_ok(outside == 0, "every object is whole");
}

/* Every pair of colors must find a background, or drawing one would never end. */
static void test_backgrounds(void)
{
    int none = 0, few = 0;
    for (int a = 0; a < COLOR_COUNT; a++)
        for (int b = 0; b <= a; b++) {
            int fit = 0, plain = 0;
            for (int i = 0; i < BACKGROUND_COUNT; i++) {
                bool stands_out =
                    shapes_stands_out((enum color)a, i) && shapes_stands_out((enum color)b, i);
                fit += stands_out;
                plain += stands_out && i < BACKGROUND_PLAINS;
            }
            none += fit < 2;
            few += a == b && (fit < 5 || plain < 3);
        }
    tap_ok(none == 0, "every two colors have two backgrounds in common");
    tap_ok(few == 0, "every color has five backgrounds, three of them plain");
}

static void test_determinism(void)
{
    struct shapes_scene a, b, other;
    char caption_a[CAPTION_MAX], caption_b[CAPTION_MAX];
    int differ = 0, same = 0;
    for (uint64_t i = 0; i < 200; i++) {
        struct image x, y;
        struct error e;
        shapes_scene(&a, 9, i, SPLIT_TRAIN);
        shapes_scene(&other, 10, i, SPLIT_TRAIN);
        shapes_scene(&b, 9, i, SPLIT_TRAIN);
        shapes_caption(caption_a, &a);
        shapes_caption(caption_b, &b);
        if (shapes_draw(&x, &a, 32, &e) < 0 || shapes_draw(&y, &b, 32, &e) < 0)
            exit(1);
        differ +=
            strcmp(caption_a, caption_b) != 0 || memcmp(x.pixels, y.pixels, image_bytes(&x)) != 0;
        shapes_caption(caption_b, &other);
        same += !strcmp(caption_a, caption_b);
        image_release(&x);
        image_release(&y);
    }
    tap_ok(differ == 0, "the same again");
    tap_ok(same < 4, "another seed makes other captions (%d of 200 the same)", same);
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Lower-case words with single spaces, few different ones, few tokens. */
static void test_captions(void)
{
    struct clip_bpe *bpe;
    struct error e;
    static char *words[SCENES * 24];
    size_t count = 0, longest = 0;
    int malformed = 0, kinds = 0;
    if (clip_bpe_new(&bpe, CLIP_BPE_VOCABULARY_MAX, &e) < 0)
        exit(1);
    for (uint64_t i = 0; i < SCENES; i++) {
        struct shapes_scene s;
        char caption[CAPTION_MAX];
        int32_t *ids;
        shapes_scene(&s, 11, i, SPLIT_BOTH);
        shapes_caption(caption, &s);
        size_t n = clip_bpe_encode(bpe, caption, strlen(caption), &ids);
        longest = n > longest ? n : longest;
        free(ids);
        malformed += strspn(caption, "abcdefghijklmnopqrstuvwxyz ") != strlen(caption) ||
                     strstr(caption, "  ") || strstr(caption, "a orange") ||
                     caption[strlen(caption) - 1] == ' ';
        for (char *word = strtok(caption, " "); word && count < sizeof words / sizeof *words;
             word = strtok(NULL, " "))
            words[count++] = strdup(word);
    }
    qsort(words, count, sizeof *words, compare_words);
    for (size_t i = 0; i < count; i++)
        kinds += i == 0 || strcmp(words[i], words[i - 1]) != 0;
    for (size_t i = 0; i < count; i++)
        free(words[i]);
    clip_bpe_free(bpe);
    tap_ok(malformed == 0, "captions are lower-case words");
    tap_ok(longest <= 32, "%zu tokens at most", longest);
    tap_ok(kinds > 30 && kinds < 80, "a vocabulary of %d words", kinds);
}

/* Whether all that the caption of a says is true of b, too. */
static bool says_also(const struct shapes_scene *a, const struct shapes_scene *b)
{
    if (a->count != b->count || (a->tells_background && a->background != b->background))
        return false;
    for (int turned = 0; turned < a->count; turned++) {
        bool fits = true;
        for (int i = 0; i < a->count; i++) {
            const struct shapes_object *x = &a->objects[i], *y = &b->objects[i ^ turned];
            fits = fits && x->shape == y->shape && x->color == y->color &&
                   (!a->tells_size || x->size == y->size);
        }
        if (a->tells_relation)
            fits = fits && (int)b->relation == ((int)a->relation ^ turned);
        if (fits && (a->count == 2 || a->place == b->place))
            return true;
    }
    return false;
}

/* Retrieval among 256 pairs can only be as good as captions fit one picture alone. */
static void test_captions_tell_apart(void)
{
    enum { PAIRS = 256, SETS = 20 };
    static struct shapes_scene scenes[PAIRS];
    static char captions[PAIRS][CAPTION_MAX];
    uint64_t next = 0;
    double best = 0;
    for (int set = 0; set < SETS; set++)
        for (int n = 0; n < PAIRS;) {
            bool known = false;
            shapes_scene(&scenes[n], 13, next++, SPLIT_TRAIN);
            shapes_caption(captions[n], &scenes[n]);
            for (int i = 0; i < n; i++)
                known = known || !strcmp(captions[i], captions[n]);
            n += !known;
            for (int i = 0; i < PAIRS && n == PAIRS && !known; i++) {
                int fit = 0;
                for (int j = 0; j < PAIRS; j++)
                    fit += says_also(&scenes[i], &scenes[j]);
                best += 1.0 / fit;
            }
        }
    best /= PAIRS * SETS;
    tap_ok(best >= 0.975,
           "of 256 pictures a caption fits its own alone: retrieval of %.2f%% is"
           " possible",
           100 * best);
}

int main(void)
{
    test_held_out_list();
    test_splits();
    test_backgrounds();
    test_determinism();
    test_captions();
    test_captions_tell_apart();
    return tap_done();
}
