/* Generates images and captions of things (tests/things/things.h). */
#include <stdio.h>

#include "common/base/message.h"
#include "tests/support/generator.h"
#include "tests/things/things.h"

enum list { LIST_NONE, LIST_THINGS, LIST_BACKGROUNDS, LIST_HELD_OUT };
static const char *const list_names[] = {"none", "things", "backgrounds", "held-out", NULL};

static const char *font = SPRITES_FONT;
static int list;
static struct sprites *sprites;
static bool describe(char caption[CAPTION_MAX], const struct generator *g, uint64_t index);
static int draw(struct image *image, const struct generator *g, uint64_t index, struct error *e);
static struct generator generator = {.count = -1, .size = 64, .describe = describe, .draw = draw};

static const struct option option_table[] = {
    GENERATOR_OPTIONS(generator, "combinations of things and backgrounds"),
    {.name = "font",
     .kind = OPTION_STRING,
     .value = &font,
     .argument = "FILE",
     .help = "Noto Color Emoji, with bitmaps"},
    {.name = "list",
     .kind = OPTION_CHOICE,
     .value = &list,
     .argument = "WHICH",
     .help = "print all things, backgrounds or held-out combinations, one per line, and exit",
     .choices = list_names},
    {0},
};

static const struct program program = {
    .name = "things",
    .summary = "Generate small images of things with captions; list PATH<tab>CAPTION.\n"
               "Existing images are checked and kept.",
    .usage = "[OPTION]... -o DIR -n N\n--list WHICH",
    .options = option_table,
};

static bool describe(char caption[CAPTION_MAX], const struct generator *g, uint64_t index)
{
    struct things_scene s;
    things_scene(&s, g->seed, index, (enum split)g->split);
    things_caption(caption, &s);
    return true;
}

static int draw(struct image *image, const struct generator *g, uint64_t index, struct error *e)
{
    struct things_scene s;
    things_scene(&s, g->seed, index, (enum split)g->split);
    return things_draw(image, &s, sprites, (int)g->size, e);
}

static void print_things(void)
{
    for (const struct thing *t = things; t < things + THINGS; t++)
        printf("U+%04X\t%s\t%s\t%s\n", (unsigned)t->code, t->name, t->synonym ? t->synonym : "-",
               thing_kinds[t->kind]);
}

static void print_backgrounds(void)
{
    for (const struct scenery *s = sceneries; s < sceneries + SCENERIES; s++)
        printf("%s\t%s\t%s\t%s\n", s->name, s->where[0], s->where[1], s->with);
}

/* Each with the words for it in a prompt. */
static void print_held_out(void)
{
    for (int i = 0; i < THINGS; i++) {
        for (int k = 0; k < SCENERIES; k++)
            if (things_held_out_on(i, k))
                printf("%s %s\n", things[i].name, sceneries[k].where[0]);
        for (int k = i + 1; k < THINGS; k++)
            if (things_held_out_pair(i, k))
                printf("%s and %s\n", things[i].name, things[k].name);
    }
}

int main(int argc, char **argv)
{
    static void (*const print[])(void) = {
        [LIST_THINGS] = print_things,
        [LIST_BACKGROUNDS] = print_backgrounds,
        [LIST_HELD_OUT] = print_held_out,
    };
    struct error e;
    if (options_parse(&program, argc, argv) > 0)
        die_usage("unexpected operand '%s'", argv[1]);
    if (list != LIST_NONE) {
        print[list]();
        end_output();
        return 0;
    }
    if (sprites_open(&sprites, font, &e) < 0)
        die("cannot read font '%s': %s", font, e.text);
    generate(&generator);
    sprites_free(sprites);
    return 0;
}
