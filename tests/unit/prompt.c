#include <string.h>

#include "common/base/message.h"
#include "common/diffusion/prompt.h"
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
    return tap_done();
}
