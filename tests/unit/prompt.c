#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/diffusion/conditioning.h"
#include "tests/support/tap.h"

static void parses(const char *argument, const char *text, double weight)
{
    struct prompt p;
    prompt_parse(&p, argument, 3);
    if (!tap_ok(!strcmp(p.text, text) && p.weight == weight, "'%s'", argument))
        tap_diag("text '%s', weight %g", p.text, p.weight);
    prompt_release(&p);
}

static void doubts(const char *argument, enum prompt_doubt doubt)
{
    struct prompt p;
    prompt_parse(&p, argument, 3);
    tap_ok(p.doubt == doubt, "doubt of '%s'", argument);
    prompt_release(&p);
}

static void kind(const char *argument, const char *text, bool is_image, double weight)
{
    struct prompt p;
    prompt_parse_any(&p, argument, 3);
    if (!tap_ok(!strcmp(p.text, text) && p.is_image == is_image && p.weight == weight,
                "kind of '%s'", argument))
        tap_diag("text '%s', image %d, weight %g", p.text, p.is_image, p.weight);
    prompt_release(&p);
}

/* A conditioning's line, read again, makes the same prompts. */
static void line(const char *const *prompts, int count, const char *expected)
{
    const struct string_list none = {0};
    struct conditionings c = {.doubts = 1000}; /* no warnings */
    struct error e;
    CHECK(conditionings_add(&c, count, prompts, &none, 3, &e) == 0);
    char *text = conditioning_line(&c.items[0]), *copy = xstrdup(text);
    CHECK(conditionings_add_line(&c, copy, &none, 5, &e) == 0 && c.count == 2);
    bool same = c.items[1].count == count;
    for (int i = 0; i < count && same; i++) {
        const struct prompt *a = &c.items[0].prompts[i], *b = &c.items[1].prompts[i];
        same = !strcmp(a->text, b->text) && a->weight == b->weight && a->is_image == b->is_image;
    }
    if (!tap_ok(same && !strcmp(text, expected), "line '%s'", expected))
        tap_diag("'%s'", text);
    free(text);
    free(copy);
    conditionings_release(&c);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    parses("a city", "a city", 3);
    parses("a city:2", "a city", 2);
    parses("a city:-0.5", "a city", -0.5);
    parses("a city:+1.5e1", "a city", 15);
    parses("a city: 2 ", "a city", 2);
    parses("a city:.5", "a city", 0.5);
    parses("a city:5.", "a city", 5);
    parses("a city:0", "a city", 0);
    parses("a:b:2", "a:b", 2);
    parses("https://host/a.jpg", "https://host/a.jpg", 3);
    parses("a:b:1.5", "a:b", 1.5);
    parses("a: b", "a: b", 3);
    parses("a:", "a:", 3);
    parses("a:.", "a:.", 3);
    parses("a:-", "a:-", 3);
    parses("a:2x", "a:2x", 3);
    parses("a:2 3", "a:2 3", 3);
    parses("a:1e", "a:1e", 3);
    parses("a:1e+", "a:1e+", 3);
    parses("a:nan", "a:nan", 3);
    parses("a:inf", "a:inf", 3);
    parses("a:0x10", "a:0x10", 3);
    parses("a:1e999", "a:1e999", 3);
    parses("http://host/a.jpg", "http://host/a.jpg", 3);
    parses("https://host/a.jpg:0.5", "https://host/a.jpg", 0.5);
    parses("http://host:8080/a.jpg", "http://host:8080/a.jpg", 3);
    parses("", "", 3);
    parses(":2", "", 2);
    parses(":", ":", 3);
    /* Times are text; a backslash makes text of a colon, a sign a weight of a number. */
    parses("time 12:30", "time 12:30", 3);
    parses("at 5:45 ", "at 5:45 ", 3);
    parses("12:30:45", "12:30:45", 3);
    parses("12:30:2", "12:30", 2);
    parses("12:+30", "12", 30);
    parses("16:9", "16", 9);
    parses("1984:30", "1984", 30);
    parses("at 12:60", "at 12", 60);
    parses("at 60:12", "at 60", 12);
    parses("at 12:30.5", "at 12", 30.5);
    parses("16\\:9", "16:9", 3);
    parses("16\\:9:2", "16:9", 2);
    parses("a\\:b\\c", "a:b\\c", 3);
    parses("\\:2", ":2", 3);
    doubts("a city:2", PROMPT_CLEAR);
    doubts("a city:10", PROMPT_CLEAR);
    doubts("a city:-20", PROMPT_CLEAR);
    doubts("a city:10.5", PROMPT_READ_AS_WEIGHT);
    doubts("a city:+10.5", PROMPT_CLEAR);
    doubts("16:9", PROMPT_READ_AS_WEIGHT);
    doubts("16:+9", PROMPT_CLEAR);
    doubts("16\\:9", PROMPT_CLEAR);
    doubts("16\\:9:2", PROMPT_CLEAR);
    doubts("http://host:8080", PROMPT_READ_AS_WEIGHT);
    doubts("12:30", PROMPT_READ_AS_TEXT);
    doubts("12\\:30", PROMPT_CLEAR);
    kind("@a.jpg:2", "a.jpg", true, 2);
    kind(" @a b@c.jpg", "a b@c.jpg", true, 3);
    kind("\\@a", "@a", false, 3);
    kind("a @b", "a @b", false, 3);
    kind("@ b", "@ b", false, 3);
    kind("@", "@", false, 3);
    line((const char *const[]){"a cat", "a dog:-0.5"}, 2, "a cat:+3\ta dog:-0.5");
    line((const char *const[]){"@a.jpg", "\\@home"}, 2, "@a.jpg:+3\t\\@home:+3");
    line((const char *const[]){"12:30", "a: b:2"}, 2, "12\\:30:+3\ta\\: b:+2");
    line((const char *const[]){"@c\\:d.jpg:1e-7"}, 1, "@c\\:d.jpg:+1e-07");
    return tap_done();
}
