/* Measures how often samples show the shape and color that their prompts ask for. Reads image
 * streams of ccld-plms, or images with captions in .txt files beside them. */
#include <stdio.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "tests/support/fidelity.h"
#include "tests/support/generator.h"
#include "tests/support/samples.h"

enum list { LIST_NONE, LIST_SEEN, LIST_HOLDOUT };
static const char *const list_names[] = {"none", "seen", "holdout", NULL};
static int list;

static const struct option option_table[] = {
    {.name = "list",
     .kind = OPTION_CHOICE,
     .value = &list,
     .argument = "WHICH",
     .help = "print prompts for combinations seen in training or held out, one per line, and exit",
     .choices = list_names},
    {0},
};

static const struct program program = {
    .name = "bench-fidelity",
    .summary =
        "Measure how often images of one object show the shape and color of their prompt.\n"
        "FILE: an image stream with prompts, or an image with its caption in a .txt beside it.",
    .usage = "[OPTION]... [FILE]...",
    .options = option_table,
};

struct tally {
    int images, right[3]; /* shape, color, both */
};

struct table {
    struct sample_rows rows;
    struct tally seen[SAMPLES_MAX_ROWS], held_out[SAMPLES_MAX_ROWS];
    int without_prompt;
};

static void judge(void *context, const struct image *image, const char *prompt,
                  const char *guidance)
{
    struct table *t = context;
    enum shape shape;
    enum color color;
    struct sighting s;
    if (!prompt || !fidelity_parse(prompt, &shape, &color)) {
        t->without_prompt++;
        return;
    }
    fidelity_look(&s, image);
    int row = sample_rows_find(&t->rows, guidance);
    struct tally *tally = shapes_held_out(shape, color) ? &t->held_out[row] : &t->seen[row];
    tally->images++;
    tally->right[0] += s.shape == shape;
    tally->right[1] += s.color == color;
    tally->right[2] += s.shape == shape && s.color == color;
    if (s.trouble)
        note("'%s': %s", prompt, s.trouble);
    else if (s.shape != shape || s.color != color)
        note("'%s': %s %s", prompt, s.color < COLOR_COUNT ? color_names[s.color] : "other color",
             s.shape < SHAPE_COUNT ? shape_names[s.shape] : "other shape");
}

static void print_table(const struct table *t)
{
    printf("%8s  %-32s  %s\n%8s", "", "combinations seen in training", "held-out combinations",
           "guidance");
    for (int i = 0; i < 2; i++)
        printf("  %8s  %6s  %6s  %6s", "images", "shape", "color", "both");
    putchar('\n');
    for (int i = 0; i < t->rows.count; i++) {
        printf("%8s", t->rows.guidance[i]);
        print_shares(t->seen[i].images, t->seen[i].right, 3);
        print_shares(t->held_out[i].images, t->held_out[i].right, 3);
        putchar('\n');
    }
}

/* Prints one of three kinds: the object alone, on a plain background, or with a size as well. */
static void print_prompt(enum shape shape, enum color color, int kind)
{
    static const char *const sizes[] = {"small", "large"};
    const char *name = color_names[color], *article = strchr("aeiou", name[0]) ? "an" : "a";
    int turn = shape * 3 + color, background = turn % BACKGROUND_PLAINS;
    while (!shapes_stands_out(color, background))
        background = (background + 1) % BACKGROUND_PLAINS;
    if (kind == 2)
        printf("a %s %s %s", sizes[turn % 2], name, shape_names[shape]);
    else
        printf("%s %s %s", article, name, shape_names[shape]);
    printf("%s%s\n", kind ? " " : "", kind ? backgrounds[background].where : "");
}

static void print_list(void)
{
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (int color = 0; color < COLOR_COUNT; color++) {
            bool held_out = shapes_held_out((enum shape)shape, (enum color)color);
            if (held_out != (list == LIST_HOLDOUT))
                continue;
            for (int kind = 0; kind < 3; kind++)
                if (held_out || kind == (shape + color) % 3)
                    print_prompt((enum shape)shape, (enum color)color, kind);
        }
}

int main(int argc, char **argv)
{
    int files = options_parse(&program, argc, argv);
    struct table t = {0};
    if (list != LIST_NONE) {
        if (files > 0)
            die_usage("no files with --list");
        print_list();
        return 0;
    }
    samples_read(argv + 1, files, judge, &t);
    if (t.without_prompt > 0)
        warn("skipped images whose prompt is not about a single known object: %d",
             t.without_prompt);
    if (t.rows.count == 0)
        die("no images to judge");
    print_table(&t);
    sample_rows_release(&t.rows);
    end_output();
    return 0;
}
