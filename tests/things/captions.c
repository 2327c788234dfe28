/* What is said of a scene. */
#include <string.h>

#include "tests/things/things.h"

const char *const thing_kinds[THING_KINDS] = {"animals",   "plants",  "food",  "vehicles",
                                              "buildings", "weather", "faces", "tools"};

/* "a zebra", "a small zebra" */
static void say_thing(struct caption *c, const struct things_scene *s, int i)
{
    static const char *const sizes[][2] = {{"a small", "a little"}, {"a large", "a big"}};
    const struct thing *t = &things[s->objects[i].thing];
    const char *name = s->synonym[i] && t->synonym ? t->synonym : t->name;
    if (!s->tells_size)
        say(c, "%s", name);
    else
        say(c, "%s %s", sizes[s->size][s->style % 3 == 0], strchr(name, ' ') + 1);
}

static void say_pair(struct caption *c, const struct things_scene *s, bool after_with)
{
    int first = s->style / 60 % 2;
    enum relation relation = first ? relation_turned[s->relation] : s->relation;
    bool across = relation == LEFT_OF || relation == RIGHT_OF;
    say_thing(c, s, first);
    if (s->tells_relation && s->style % 5 < 4)
        say(c, " %s ", relation_words[s->style / 120][relation]);
    else if (across && !s->tells_relation && s->style % 2)
        say(c, " next to ");
    else
        say(c, " %s ", !after_with && (s->tells_relation || s->style % 3 == 0) ? "with" : "and");
    say_thing(c, s, !first);
    if (s->tells_relation && s->style % 5 == 4)
        say(c, " %s", relation_seen[relation_turned[relation]]);
}

void things_caption(char caption[CAPTION_MAX], const struct things_scene *s)
{
    static const char *const openings[] = {"a picture of ", "a drawing of ", "an image of "};
    const struct scenery *b = &sceneries[s->scenery];
    struct caption c = {.text = caption};
    bool before = s->tells_scenery && s->style % 8 == 7;
    *caption = 0;
    if (before)
        say(&c, "%s ", b->with);
    else if (s->style % 4 == 2)
        say(&c, "%s", openings[s->style % 3]);
    if (s->count == 1)
        say_thing(&c, s, 0);
    else
        say_pair(&c, s, before);
    if (s->tells_scenery && !before)
        say(&c, " %s", b->where[s->style / 20 % 3 == 0]);
}
