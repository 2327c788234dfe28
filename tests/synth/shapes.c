/* Generates images and captions of colored shapes (tests/support/shapes.h). */
#include <stdio.h>

#include "common/base/message.h"
#include "tests/support/generator.h"
#include "tests/support/shapes.h"

enum list { LIST_NONE, LIST_SHAPES, LIST_COLORS };
static const char *const list_names[] = {"none", "shapes", "colours", NULL};

static int only = -1, list;
static bool describe(char caption[CAPTION_MAX], const struct generator *g, uint64_t index);
static int draw(struct image *image, const struct generator *g, uint64_t index, struct error *e);
static struct generator generator = {.count = -1, .size = 64, .describe = describe, .draw = draw};

static const struct option option_table[] = {
    GENERATOR_OPTIONS(generator, "combinations of shape and color"),
    {.name = "only",
     .kind = OPTION_CHOICE,
     .value = &only,
     .argument = "SHAPE",
     .help = "skip images of the sequence that contain no such shape",
     .choices = shape_names},
    {.name = "list",
     .kind = OPTION_CHOICE,
     .value = &list,
     .argument = "WHICH",
     .help = "print the names used in captions, one per line, and exit",
     .choices = list_names},
    {0},
};

static const struct program program = {
    .name = "shapes",
    .summary = "Generate small images of colored shapes with captions; list PATH<tab>CAPTION.\n"
               "Existing images are checked and kept.",
    .usage = "[OPTION]... -o DIR -n N\n--list WHICH",
    .options = option_table,
};

/* False if --only skips it. */
static bool describe(char caption[CAPTION_MAX], const struct generator *g, uint64_t index)
{
    struct shapes_scene s;
    bool wanted = only < 0;
    shapes_scene(&s, g->seed, index, (enum split)g->split);
    for (int i = 0; i < s.count; i++)
        wanted = wanted || (int)s.objects[i].shape == only;
    shapes_caption(caption, &s);
    return wanted;
}

static int draw(struct image *image, const struct generator *g, uint64_t index, struct error *e)
{
    struct shapes_scene s;
    shapes_scene(&s, g->seed, index, (enum split)g->split);
    return shapes_draw(image, &s, (int)g->size, e);
}

int main(int argc, char **argv)
{
    if (options_parse(&program, argc, argv) > 0)
        die_usage("unexpected operand '%s'", argv[1]);
    if (list == LIST_NONE) {
        generate(&generator);
        return 0;
    }
    for (const char *const *name = list == LIST_SHAPES ? shape_names : color_names; *name; name++)
        puts(*name);
    end_output();
    return 0;
}
