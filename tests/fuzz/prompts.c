/* Lines of prompts, each `text[:weight]`, as --prompts reads them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/diffusion/conditioning.h"
#include "tests/fuzz/support/fuzz.h"

static void check_prompt(const char *argument)
{
    struct prompt p;
    prompt_parse(&p, argument, 3);
    size_t n = strlen(p.text);
    CHECK(isfinite(p.weight) && strncmp(p.text, argument, n) == 0);
    CHECK(argument[n] == 0 ? p.weight == 3 : argument[n] == ':');
    prompt_release(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const image[] = {"a/b.png:2"};
    struct string_list images = {(const char **)image, size % 2};
    struct conditionings c = {0};
    struct error e = {""};
    char *text = fuzz_text(data, size);
    check_prompt(text);
    free(text);
    fuzz_file(data, size);
    if (conditionings_add_file(&c, fuzz_path(), &images, 3, &e) != 0)
        CHECK(e.text[0]);
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    CHECK(c.count >= 0 && (size_t)c.count <= lines);
    for (int i = 0; i < c.count; i++) {
        const struct conditioning *p = &c.items[i];
        CHECK(p->count == 1 + images.count && p->texts == 1 && p->label);
        for (int j = 0; j < p->count; j++)
            CHECK(fabs(p->prompts[j].weight) <= CONDITIONING_MAX_WEIGHT);
        for (int j = 0; j <= p->count; j++)
            CHECK(isfinite(p->weights[j]));
    }
    conditionings_release(&c);
    return 0;
}
