#include "tests/things/prompt.h"

#include <ctype.h>
#include <string.h>

static bool is_part_of_word(char c)
{
    return isalpha((unsigned char)c) || c == '-';
}

/* The length of `words` if text starts with them and they end there, else 0. */
static size_t starts_with(const char *text, const char *words)
{
    size_t n = strlen(words);
    return !strncmp(text, words, n) && !is_part_of_word(text[n]) ? n : 0;
}

static const char *find_words(const char *text, const char *words)
{
    for (const char *at = text; (at = strstr(at, words)); at++)
        if ((at == text || !is_part_of_word(at[-1])) && starts_with(at, words))
            return at;
    return NULL;
}

/* The thing with the longest name that text starts with, or -1. */
static int longest_name(const char *text, size_t *length)
{
    int found = -1;
    *length = 0;
    for (int i = 0; i < 2 * THINGS; i++) {
        const char *name = i % 2 ? things[i / 2].synonym : things[i / 2].name;
        size_t n = name ? starts_with(text, strchr(name, ' ') + 1) : 0;
        if (n > *length) {
            *length = n;
            found = i / 2;
        }
    }
    return found;
}

/* The relation whose words text starts with after blanks, or -1. */
static int relation_at(const char *text, const char *const words[RELATION_COUNT])
{
    while (*text == ' ')
        text++;
    for (int r = 0; r < RELATION_COUNT; r++)
        if (starts_with(text, words[r]))
            return r;
    return -1;
}

static int find_scenery(const char *prompt)
{
    for (int k = 0; k < SCENERIES; k++)
        if (find_words(prompt, sceneries[k].where[0]) ||
            find_words(prompt, sceneries[k].where[1]) || find_words(prompt, sceneries[k].with))
            return k;
    return -1;
}

bool things_parse(struct things_wanted *w, const char *prompt)
{
    const char *ends[2] = {NULL};
    *w = (struct things_wanted){.relation = -1, .scenery = find_scenery(prompt)};
    for (const char *at = prompt; *at;) {
        size_t n;
        int thing = longest_name(at, &n);
        if (thing < 0) {
            while (is_part_of_word(*at))
                at++;
            at += *at != 0;
            continue;
        }
        at += n;
        if (w->count == 2)
            return false;
        ends[w->count] = at;
        w->things[w->count++] = thing;
    }
    if (w->count < 2)
        return w->count == 1;
    for (int k = 0; k < 2 && w->relation < 0; k++)
        w->relation = relation_at(ends[0], relation_words[k]);
    int seen = relation_at(ends[1], relation_seen); /* of the second to the first */
    if (w->relation < 0 && seen >= 0)
        w->relation = (int)relation_turned[seen];
    return true;
}
