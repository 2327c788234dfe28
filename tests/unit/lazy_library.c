#include <math.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/lazy_library.h"
#include "tests/support/tap.h"

#define FUNCTIONS(X) X(cos) X(floor)

static struct {
    FUNCTIONS(LAZY_FUNCTION)
} lib;
static const char *const names[] = {"cos", "floor", NULL}, *const others[] = {"cos", "coz", NULL};

int main(void)
{
    struct lazy_library found = {.format = "numbers", .file = "libm.so.6", .names = names};
    struct lazy_library lacking = {.format = "XYZ", .file = "libnowhere.so.3", .names = names};
    struct lazy_library old = {.format = "XYZ", .file = "libm.so.6", .names = others};
    struct error e = {""};
    message_init("lazy_library");
    tap_ok(lazy_library_load(&found, &lib, &e) == 0 && lib.cos(0) == 1 && lib.floor(2.5) == 2,
           "functions are found: %s", e.text);
    for (int i = 0; i < 2; i++)
        tap_ok(lazy_library_load(&lacking, &lib, &e) == -1 &&
                   strstr(e.text, "reading XYZ needs libnowhere.so.3: "),
               "no library: %s", e.text);
    tap_ok(lazy_library_load(&old, &lib, &e) == -1 &&
               strcmp(e.text, "reading XYZ: libm.so.6 has no function coz") == 0,
           "an older library: %s", e.text);
    return tap_done();
}
