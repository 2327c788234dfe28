/* Draws random scenes and writes their captions. */
#include <string.h>

#include "common/base/message.h"
#include "tests/support/oklab.h"
#include "tests/support/shapes.h"

const char *const shape_names[SHAPE_COUNT + 1] = {"circle",  "square", "triangle", "star",
                                                  "heart",   "moon",   "cross",    "ring",
                                                  "diamond", "flower", NULL};
const char *const color_names[COLOR_COUNT + 1] = {
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black", NULL};
const uint8_t color_srgb[COLOR_COUNT][3] = {
    {216, 40, 44}, {245, 132, 30}, {250, 208, 36},  {40, 148, 66},   {24, 190, 200},
    {38, 84, 206}, {126, 56, 172}, {242, 112, 172}, {250, 250, 250}, {32, 32, 38},
};

#define PLAIN(color)                                                                               \
    BACKGROUND_PLAIN, {color}, "on a " color " background", "a " color " background with"
#define GRADIENT(top, bottom)                                                                      \
    BACKGROUND_GRADIENT, {top, bottom}, "on a background fading from " top " to " bottom,          \
        "a background fading from " top " to " bottom " with"
#define GROUND(where, with) BACKGROUND_GROUND, {NULL}, where, with " with"
const struct background backgrounds[BACKGROUND_COUNT] = {
    {PLAIN("white"), {{244, 243, 238}}},
    {PLAIN("gray"), {{150, 155, 162}}},
    {PLAIN("black"), {{42, 44, 52}}},
    {PLAIN("blue"), {{156, 198, 238}}},
    {PLAIN("green"), {{166, 212, 154}}},
    {PLAIN("yellow"), {{247, 232, 162}}},
    {PLAIN("pink"), {{247, 202, 214}}},
    {GRADIENT("blue", "white"), {{130, 180, 232}, {240, 242, 242}}},
    {GRADIENT("blue", "pink"), {{150, 192, 236}, {247, 206, 218}}},
    {GRADIENT("yellow", "green"), {{250, 236, 168}, {160, 208, 148}}},
    {GRADIENT("gray", "white"), {{142, 148, 156}, {236, 237, 238}}},
    {GRADIENT("black", "gray"), {{40, 42, 50}, {128, 132, 140}}},
    {GROUND("in a meadow", "a meadow"),
     {{140, 194, 240}, {204, 228, 246}, {152, 204, 118}, {122, 180, 96}}},
    {GROUND("on a beach", "a beach"),
     {{132, 198, 236}, {210, 236, 244}, {244, 224, 172}, {232, 204, 146}}},
    {GROUND("in the snow", "a snowy field"),
     {{150, 176, 206}, {198, 212, 226}, {246, 249, 252}, {226, 234, 242}}},
    {GROUND("at night", "a night scene"),
     {{20, 24, 58}, {52, 58, 106}, {42, 58, 62}, {26, 38, 44}}},
    {GROUND("at sunset", "a sunset"),
     {{246, 176, 128}, {252, 220, 160}, {104, 82, 112}, {78, 60, 92}}},
};

bool shapes_held_out(enum shape shape, enum color color)
{
#define IS(s, c)                                                                                   \
    if (shape == SHAPE_##s && color == COLOR_##c)                                                  \
        return true;
    SHAPES_HELD_OUT(IS)
#undef IS
    return false;
}

/* The mixture of two tones. */
static struct oklab oklab_between(const uint8_t from[3], const uint8_t to[3], float share)
{
    float x[3];
    for (int c = 0; c < 3; c++)
        x[c] = ((float)from[c] * (1 - share) + (float)to[c] * share) / 255;
    return oklab_from_srgb(x);
}

bool shapes_stands_out(enum color color, int background)
{
    static const int last_tones[] = {0, 1, 3}; /* pairs start at even indices */
    const struct background *b = &backgrounds[background];
    for (int i = 0; i < 2; i++)
        if (b->colors[i] && !strcmp(b->colors[i], color_names[color]))
            return false;
    const uint8_t *rgb = color_srgb[color];
    struct oklab object = oklab_between(rgb, rgb, 0);
    for (int i = 0; i <= last_tones[b->kind]; i += 2)
        for (int k = 0; k <= 4; k++) {
            const uint8_t *to = b->tones[b->kind == BACKGROUND_PLAIN ? i : i + 1];
            struct oklab tone = oklab_between(b->tones[i], to, (float)k / 4);
            if (oklab_distance(object, tone) < SHAPES_CONTRAST)
                return false;
        }
    return true;
}

static void draw_combination(struct draws *d, struct shapes_object *o, enum split split)
{
    do {
        o->shape = (enum shape)draw_one_of(d, SHAPE_COUNT);
        o->color = (enum color)draw_one_of(d, COLOR_COUNT);
    } while (split != SPLIT_BOTH &&
             shapes_held_out(o->shape, o->color) != (split == SPLIT_HOLDOUT));
}

static void draw_combinations(struct draws *d, struct shapes_scene *s)
{
    int lead = draw_one_of(d, s->count);
    draw_combination(d, &s->objects[lead], d->split);
    if (s->count == 1)
        return;
    const struct shapes_object *a = &s->objects[lead];
    struct shapes_object *b = &s->objects[!lead];
    do
        draw_combination(d, b, d->split == SPLIT_HOLDOUT ? SPLIT_BOTH : d->split);
    while (a->shape == b->shape && a->color == b->color);
}

static void draw_background(struct draws *d, struct shapes_scene *s)
{
    bool fits;
    do {
        s->background = draw_one_of(d, BACKGROUND_COUNT);
        fits = true;
        for (int i = 0; i < s->count; i++)
            fits = fits && shapes_stands_out(s->objects[i].color, s->background);
    } while (!fits);
    s->slope = draw_between(d, -0.2f, 0.2f);
    s->horizon = draw_between(d, 0.54f, 0.7f);
    s->phase = draw_between(d, 0, 6.2831853f);
}

/* Shapes that are hard to recognize when rotated are rotated less. */
static void draw_looks(struct draws *d, struct shapes_object *o)
{
    static const float most[SHAPE_COUNT] = {
        [SHAPE_SQUARE] = 0.12f, [SHAPE_TRIANGLE] = 0.15f, [SHAPE_STAR] = 0.25f,
        [SHAPE_HEART] = 0.2f,   [SHAPE_MOON] = 0.25f,     [SHAPE_CROSS] = 0.15f,
        [SHAPE_DIAMOND] = 0.1f, [SHAPE_FLOWER] = 0.6f};
    float turn = draw_between(d, -1, 1);
    o->angle = turn * most[o->shape];
    o->tint = draw_between(d, -1, 1);
}

static void place_one(struct draws *d, struct shapes_scene *s)
{
    static const float radius[][2] = {{0.15f, 0.18f}, {0.22f, 0.26f}, {0.33f, 0.38f}};
    static const float jitter[] = {0.03f, 0.06f, 0.03f};
    struct shapes_object *o = &s->objects[0];
    o->size = (enum shapes_size)draw_one_of(d, 3);
    o->radius = draw_between(d, radius[o->size][0], radius[o->size][1]);
    if (o->size == SIZE_SMALL && draw_chance(d, 0.6f))
        s->place = (enum shapes_place)(1 + draw_one_of(d, PLACE_COUNT - 1));
    float x = 0.5f, y = 0.5f, j = jitter[o->size];
    if (s->place != PLACE_MIDDLE) {
        bool right = s->place == PLACE_TOP_RIGHT || s->place == PLACE_BOTTOM_RIGHT;
        bool bottom = s->place == PLACE_BOTTOM_LEFT || s->place == PLACE_BOTTOM_RIGHT;
        x = right ? 0.73f : 0.27f;
        y = bottom ? 0.73f : 0.27f;
    }
    o->x = draw_between(d, x - j, x + j);
    o->y = draw_between(d, y - j, y + j);
}

static void place_two(struct draws *d, struct shapes_scene *s)
{
    s->relation = (enum relation)draw_one_of(d, RELATION_COUNT);
    bool across = s->relation == LEFT_OF || s->relation == RIGHT_OF;
    bool first = s->relation == LEFT_OF || s->relation == ABOVE;
    for (int i = 0; i < 2; i++) {
        struct shapes_object *o = &s->objects[i];
        o->size = draw_chance(d, 0.5f) ? SIZE_LARGE : SIZE_SMALL;
        o->radius =
            o->size == SIZE_LARGE ? draw_between(d, 0.18f, 0.2f) : draw_between(d, 0.12f, 0.14f);
        float along = draw_between(d, 0.225f, 0.245f),
              aside = 0.5f + draw_between(d, -0.06f, 0.06f);
        along = 0.5f + (first == (i == 0) ? -along : along);
        o->x = across ? along : aside;
        o->y = across ? aside : along;
    }
}

void shapes_scene(struct shapes_scene *s, uint64_t seed, uint64_t index, enum split split)
{
    struct draws d = {.purpose = RNG_SHAPES, .seed = seed, .index = index, .split = split};
    *s = (struct shapes_scene){.count = draw_chance(&d, 0.5f) ? 2 : 1};
    draw_combinations(&d, s);
    if (s->count == 1)
        place_one(&d, s);
    else
        place_two(&d, s);
    for (int i = 0; i < s->count; i++)
        draw_looks(&d, &s->objects[i]);
    draw_background(&d, s);
    s->style = draw_one_of(&d, 240);
    /* Single objects need details: without them too many captions would be equal. */
    s->tells_background = draw_chance(&d, s->count == 1 ? 0.92f : 0.6f);
    s->tells_relation = s->count == 2 && draw_chance(&d, 0.8f);
    s->tells_size = s->count == 1 || draw_chance(&d, 0.5f);
}

/* "a small red circle" */
static void say_object(struct caption *c, const struct shapes_scene *s, int i)
{
    const struct shapes_object *o = &s->objects[i];
    const char *size = "", *color = color_names[o->color];
    if (s->tells_size && o->size == SIZE_SMALL)
        size = s->style % 3 == 0 ? "little " : "small ";
    if (s->tells_size && o->size == SIZE_LARGE)
        size = s->style % 3 == 0 ? "big " : "large ";
    say(c, "%s %s%s %s", !*size && strchr("aeiou", color[0]) ? "an" : "a", size, color,
        shape_names[o->shape]);
}

static void say_pair(struct caption *c, const struct shapes_scene *s)
{
    int first = s->style / 60 % 2;
    enum relation relation = first ? relation_turned[s->relation] : s->relation;
    say_object(c, s, first);
    if (s->tells_relation && s->style % 5 < 4)
        say(c, " %s ", relation_words[s->style / 120][relation]);
    else
        say(c, " %s ", s->tells_relation ? "with" : "and");
    say_object(c, s, !first);
    if (s->tells_relation && s->style % 5 == 4)
        say(c, " %s", relation_seen[relation_turned[relation]]);
}

void shapes_caption(char caption[CAPTION_MAX], const struct shapes_scene *s)
{
    static const char *const places[PLACE_COUNT] = {
        "", " in the top left corner", " in the top right corner", " in the bottom left corner",
        " in the bottom right corner"};
    const struct background *b = &backgrounds[s->background];
    struct caption c = {.text = caption};
    bool before = s->tells_background && s->style % 4 == 3;
    if (before)
        say(&c, "%s ", b->with);
    else if (s->style % 4 == 2)
        say(&c, "%s ", s->style % 3 ? "a picture of" : "a drawing of");
    if (s->count == 1) {
        say_object(&c, s, 0);
        say(&c, "%s", places[s->place]);
    } else {
        say_pair(&c, s);
    }
    if (s->tells_background && !before)
        say(&c, " %s", b->where);
}
