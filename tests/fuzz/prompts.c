/* Prompts, `text[:weight]` or `@file[:weight]`, and lines of them, as --prompts reads them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/diffusion/conditioning.h"
#include "tests/fuzz/support/fuzz.h"

/* The text is the argument's beginning, apart from backslashes; with a backslash before each colon,
 * all of a text is read as text. */
static void check_prompt(const char *argument)
{
    struct prompt p, again;
    prompt_parse(&p, argument, 3);
    CHECK(isfinite(p.weight) && !p.is_image && strlen(p.text) <= strlen(argument));
    if (!strchr(argument, ':'))
        CHECK(p.weight == 3 && strcmp(p.text, argument) == 0);
    char *escaped = xmalloc(2 * strlen(p.text) + 1), *out = escaped;
    bool backslash = strchr(p.text, '\\') != NULL;
    for (const char *c = p.text; *c; c++) {
        if (*c == ':')
            *out++ = '\\';
        *out++ = *c;
    }
    *out = 0;
    prompt_parse(&again, escaped, 5);
    CHECK(backslash || (again.weight == 5 && strcmp(again.text, p.text) == 0));
    prompt_release(&again);
    prompt_release(&p);
    free(escaped);
    prompt_parse_any(&p, argument, 3);
    CHECK(isfinite(p.weight) && (!p.is_image || strchr(argument, '@')));
    prompt_release(&p);
}

/* The line of a conditioning makes the same one, but for backslashes and blanks. */
static void check_line(const struct conditioning *p)
{
    const struct string_list none = {0};
    struct conditionings c = {.doubts = 1000};
    struct error e;
    for (int i = 0; i < p->count; i++)
        if (strpbrk(p->prompts[i].text, "\\\t\n\r"))
            return;
    char *line = conditioning_line(p);
    CHECK(conditionings_add_line(&c, line, &none, 5, &e) == 0 && c.count == 1);
    const struct conditioning *again = &c.items[0];
    CHECK(again->count == p->count);
    for (int i = 0; i < p->count; i++) {
        const struct prompt *a = &p->prompts[i], *b = &again->prompts[i];
        const char *text = a->text + (a->is_image ? 0 : strspn(a->text, " \v\f"));
        bool at = !a->is_image && *text == '@';
        CHECK(strcmp(at ? text : a->text, b->text) == 0 && a->is_image == b->is_image);
        CHECK(fabs(a->weight - b->weight) <= 1e-8 * fabs(a->weight));
    }
    free(line);
    conditionings_release(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conditionings c = {.doubts = 1000}; /* no warnings */
    struct error e = {""};
    char *text = fuzz_text(data, size);
    check_prompt(text);
    free(text);
    fuzz_file(data, size);
    if (conditionings_add_file(&c, fuzz_path(), 3, &e) != 0)
        CHECK(e.text[0]);
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    CHECK(c.count >= 0 && (size_t)c.count <= lines);
    for (int i = 0; i < c.count; i++) {
        const struct conditioning *p = &c.items[i];
        CHECK(p->count >= 1 && p->label);
        for (int j = 0; j < p->count; j++)
            CHECK(fabs(p->prompts[j].weight) <= CONDITIONING_MAX_WEIGHT);
        for (int j = 0; j <= p->count; j++)
            CHECK(isfinite(p->weights[j]));
        check_line(p);
    }
    conditionings_release(&c);
    return 0;
}
