/* Draws random scenes. */
#include <math.h>

#include "tests/things/things.h"

bool things_held_out_on(int thing, int scenery)
{
    return (7 * thing + thing / SCENERIES + 3) % SCENERIES == scenery;
}

bool things_held_out_pair(int one, int other)
{
    return one != other && (one + other) % 16 == 9;
}

static bool has_held_out(const struct things_scene *s)
{
    bool any = s->count == 2 && things_held_out_pair(s->objects[0].thing, s->objects[1].thing);
    for (int i = 0; i < s->count; i++)
        any = any || things_held_out_on(s->objects[i].thing, s->scenery);
    return any;
}

static void draw_combination(struct draws *d, struct things_scene *s)
{
    do {
        for (int i = 0; i < s->count; i++)
            s->objects[i].thing = draw_one_of(d, THINGS);
        s->scenery = draw_one_of(d, SCENERIES);
    } while ((s->count == 2 && s->objects[0].thing == s->objects[1].thing) ||
             (d->split != SPLIT_BOTH && has_held_out(s) != (d->split == SPLIT_HOLDOUT)));
}

/* What stands on the ground is low in the image. */
static void place_one(struct draws *d, struct things_scene *s)
{
    struct things_object *o = &s->objects[0];
    s->size = draw_chance(d, 0.6f) ? SIZE_ONE_LARGE : SIZE_ONE_SMALL;
    o->extent =
        s->size == SIZE_ONE_LARGE ? draw_between(d, 0.68f, 0.78f) : draw_between(d, 0.46f, 0.54f);
    float room = 0.47f - o->extent / 2;
    bool ground = sceneries[s->scenery].kind == SCENERY_GROUND;
    o->x = 0.5f + draw_between(d, -room, room);
    o->y = 0.5f + draw_between(d, ground ? 0.3f * room : -room, room);
}

static void place_two(struct draws *d, struct things_scene *s)
{
    s->relation = (enum relation)draw_one_of(d, RELATION_COUNT);
    bool across = s->relation == LEFT_OF || s->relation == RIGHT_OF;
    bool first = s->relation == LEFT_OF || s->relation == ABOVE;
    for (int i = 0; i < 2; i++) {
        struct things_object *o = &s->objects[i];
        o->extent = draw_between(d, 0.39f, 0.44f);
        float along = draw_between(d, 0.245f, 0.26f), aside = 0.5f + draw_between(d, -0.16f, 0.16f);
        along = 0.5f + (first == (i == 0) ? -along : along);
        o->x = across ? along : aside;
        o->y = across ? aside : along;
    }
}

void things_scene(struct things_scene *s, uint64_t seed, uint64_t index, enum split split)
{
    struct draws d = {.purpose = RNG_THINGS, .seed = seed, .index = index, .split = split};
    *s = (struct things_scene){.count = draw_chance(&d, 0.5f) ? 2 : 1};
    draw_combination(&d, s);
    if (s->count == 1)
        place_one(&d, s);
    else
        place_two(&d, s);
    for (int i = 0; i < s->count; i++) {
        s->objects[i].mirrored = draw_chance(&d, 0.5f);
        s->objects[i].angle = draw_between(&d, -0.12f, 0.12f);
        s->synonym[i] = draw_chance(&d, 0.3f);
    }
    s->slope = draw_between(&d, -0.15f, 0.15f);
    s->horizon = draw_between(&d, 0.5f, 0.66f);
    s->phase = draw_between(&d, 0, 6.2831853f);
    s->shade = draw_between(&d, -1, 1);
    s->style = draw_one_of(&d, 240);
    /* Two things tell an image apart by themselves. */
    s->tells_scenery = draw_chance(&d, s->count == 1 ? 0.85f : 0.7f);
    s->tells_size = s->count == 1 && draw_chance(&d, 0.6f);
    s->tells_relation = s->count == 2 && draw_chance(&d, 0.85f);
    s->details = d;
}
