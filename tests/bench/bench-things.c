/* Measures how often samples show the things and the background that their prompts ask for. Reads
 * image streams of ccld-plms, or images with captions in .txt files beside them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "tests/support/generator.h"
#include "tests/support/samples.h"
#include "tests/things/look.h"
#include "tests/things/prompt.h"

enum list { LIST_NONE, LIST_SEEN, LIST_HOLDOUT, LIST_SEEN_PAIRS, LIST_HOLDOUT_PAIRS, LIST_OPEN };
static const char *const list_names[] = {"none",          "seen", "holdout", "seen-pairs",
                                         "holdout-pairs", "open", NULL};
static int list;
static const char *font = SPRITES_FONT;

static const struct option option_table[] = {
    {.name = "list",
     .kind = OPTION_CHOICE,
     .value = &list,
     .argument = "WHICH",
     .help = "print prompts for combinations seen in training or held out, or without a "
             "background, one per line, and exit",
     .choices = list_names},
    {.name = "font",
     .kind = OPTION_STRING,
     .value = &font,
     .argument = "FILE",
     .help = "Noto Color Emoji, with bitmaps"},
    {0},
};

static const struct program program = {
    .name = "bench-things",
    .summary = "Measure how often images show the things and the background of their prompt.\n"
               "FILE: an image stream with prompts, or an image with its caption in a .txt beside "
               "it.",
    .usage = "[OPTION]... [FILE]...",
    .options = option_table,
};

/* One thing: it, the background, both. Two things: both, in the right relation as well, and on the
 * right background as well. A relation or background that a prompt of two leaves open is right. */
struct tally {
    int images, right[3];
};

/* Of a row's prompts of one thing that leave the background open: how many different ones their
 * images have. They count nowhere else. */
struct variety {
    char *prompt; /* of the last image */
    bool shown[SCENERIES];
    int prompts, images, different, things; /* things: images with the right one */
};

struct table {
    struct look *look;
    struct sample_rows rows;
    struct tally tallies[SAMPLES_MAX_ROWS][2][2]; /* [two things][held out] */
    struct tally kinds[THING_KINDS][2];           /* of single things, [held out] */
    struct variety varieties[SAMPLES_MAX_ROWS];
    int without_prompt;
};

static bool is_held_out(const struct things_wanted *w)
{
    for (int i = 0; i < w->count; i++)
        if (w->scenery >= 0 && things_held_out_on(w->things[i], w->scenery))
            return true;
    return w->count == 2 && things_held_out_pair(w->things[0], w->things[1]);
}

static void count(struct tally *t, const bool right[3])
{
    t->images++;
    for (int i = 0; i < 3; i++)
        t->right[i] += right[i];
}

static void compare(bool right[3], const struct things_wanted *w,
                    const struct sighting_of_things *s)
{
    bool scenery = w->scenery < 0 || s->scenery == w->scenery;
    if (w->count == 1) {
        right[0] = s->count == 1 && s->objects[0].thing == w->things[0];
        right[1] = scenery;
        right[2] = right[0] && right[1];
        return;
    }
    bool turned = s->objects[0].thing == w->things[1];
    right[0] = s->count == 2 && s->objects[turned].thing == w->things[0] &&
               s->objects[!turned].thing == w->things[1];
    enum relation is = s->count == 2 ? look_relation(s) : RELATION_COUNT;
    if (right[0] && turned)
        is = relation_turned[is];
    right[1] = right[0] && (w->relation < 0 || (int)is == w->relation);
    right[2] = right[1] && scenery;
}

static void count_variety(struct variety *v, const char *prompt, int scenery, bool right)
{
    if (!v->prompt || strcmp(v->prompt, prompt) != 0) {
        free(v->prompt);
        v->prompt = xstrdup(prompt);
        v->prompts++;
        memset(v->shown, 0, sizeof v->shown);
    }
    v->images++;
    v->things += right;
    if (scenery < 0)
        return;
    v->different += !v->shown[scenery];
    v->shown[scenery] = true;
}

static void tell(const char *prompt, const struct sighting_of_things *s)
{
    note("'%s': %s%s%s on %s", prompt, s->count > 0 ? things[s->objects[0].thing].name : "no thing",
         s->count > 1 ? " and " : "", s->count > 1 ? things[s->objects[1].thing].name : "",
         s->scenery < 0 ? "no known background" : sceneries[s->scenery].name);
}

static void judge(void *context, const struct image *image, const char *prompt,
                  const char *guidance)
{
    struct table *t = context;
    struct things_wanted w;
    struct sighting_of_things s;
    bool right[3];
    if (!prompt || !things_parse(&w, prompt)) {
        t->without_prompt++;
        return;
    }
    look_at(&s, t->look, image);
    compare(right, &w, &s);
    int row = sample_rows_find(&t->rows, guidance);
    bool held_out = is_held_out(&w);
    bool open = w.count == 1 && w.scenery < 0;
    if (open)
        count_variety(&t->varieties[row], prompt, s.scenery, right[0]);
    else
        count(&t->tallies[row][w.count - 1][held_out], right);
    if (w.count == 1 && !open)
        count(&t->kinds[things[w.things[0]].kind][held_out], right);
    if (!right[2])
        tell(prompt, &s);
}

static void print_head(const char *title, const char *first, const char *const columns[3])
{
    printf("%s\n%-10s  %-32s  %s\n%-10s", title, "", "seen in training", "held out", first);
    for (int i = 0; i < 2; i++)
        printf("  %8s  %6s  %6s  %6s", "images", columns[0], columns[1], columns[2]);
    putchar('\n');
}

static void print_row(const char *name, const struct tally tallies[2])
{
    if (tallies[0].images + tallies[1].images == 0)
        return;
    printf("%-10s", name);
    for (int i = 0; i < 2; i++)
        print_shares(tallies[i].images, tallies[i].right, 3);
    putchar('\n');
}

static void print_table(const struct table *t)
{
    static const char *const columns[2][3] = {{"thing", "backg.", "both"},
                                              {"things", "placed", "all"}};
    static const char *const titles[] = {"One thing", "\nTwo things"};
    for (int two = 0; two < 2; two++) {
        print_head(titles[two], "guidance", columns[two]);
        for (int i = 0; i < t->rows.count; i++)
            print_row(t->rows.guidance[i], t->tallies[i][two]);
    }
    print_head("\nOne thing, at all values of guidance", "kind", columns[0]);
    for (int kind = 0; kind < THING_KINDS; kind++)
        print_row(thing_kinds[kind], t->kinds[kind]);
    for (int i = 0; i < t->rows.count; i++) {
        const struct variety *v = &t->varieties[i];
        if (v->prompts > 0)
            printf("\nguidance %s, one thing without a background: %.1f backgrounds among %.1f "
                   "images, the thing in %.1f%%\n",
                   t->rows.guidance[i], (double)v->different / v->prompts,
                   (double)v->images / v->prompts, 100.0 * v->things / v->images);
    }
}

/* A background for each thing: the one that is held out, or the one that follows it or a later one.
 */
static void list_singles(bool held_out)
{
    for (int i = 0; i < THINGS; i++)
        for (int k = 0; k < SCENERIES; k++)
            if (things_held_out_on(i, k)) {
                int on = held_out ? k : (k + 1 + i % (SCENERIES - 1)) % SCENERIES;
                printf("%s %s\n", things[i].name, sceneries[on].where[0]);
            }
}

/* Another thing for every second one, in all four relations. */
static void list_pairs(bool held_out)
{
    for (int i = 0; i < THINGS; i += 2) {
        int other = (37 * i + 11) % THINGS;
        while (other == i || things_held_out_pair(i, other) != held_out)
            other = (other + 1) % THINGS;
        printf("%s %s %s\n", things[i].name, relation_words[0][i / 2 % RELATION_COUNT],
               things[other].name);
    }
}

static void print_list(void)
{
    if (list == LIST_SEEN || list == LIST_HOLDOUT)
        list_singles(list == LIST_HOLDOUT);
    else if (list != LIST_OPEN)
        list_pairs(list == LIST_HOLDOUT_PAIRS);
    for (int i = 0; i < THINGS && list == LIST_OPEN; i += 16)
        puts(things[i].name);
    end_output();
}

int main(int argc, char **argv)
{
    static struct table t;
    struct sprites *sprites;
    struct error e;
    int files = options_parse(&program, argc, argv);
    if (list != LIST_NONE) {
        if (files > 0)
            die_usage("no files with --list");
        print_list();
        return 0;
    }
    if (sprites_open(&sprites, font, &e) < 0)
        die("cannot read font '%s': %s", font, e.text);
    t.look = look_new(sprites);
    samples_read(argv + 1, files, judge, &t);
    if (t.without_prompt > 0)
        warn("skipped images whose prompt is not about one or two known things: %d",
             t.without_prompt);
    if (t.rows.count == 0)
        die("no images to judge");
    print_table(&t);
    for (int i = 0; i < SAMPLES_MAX_ROWS; i++)
        free(t.varieties[i].prompt);
    sample_rows_release(&t.rows);
    look_free(t.look);
    sprites_free(sprites);
    end_output();
    return 0;
}
