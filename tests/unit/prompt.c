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
    parses("12:30", "12", 30);
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
    return tap_done();
}
