#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/base/message.h"
#include "common/run/checkpoint.h"

/* The slot where an option with this name is or belongs. */
static size_t slot_of(const struct training_options *o, const char *name)
{
    size_t mask = o->slot_count - 1;
    size_t at = (size_t)XXH3_64bits(name, strlen(name)) & mask;
    while (o->slots[at] > 0 && strcmp(o->items[o->slots[at] - 1].name, name) != 0)
        at = (at + 1) & mask;
    return at;
}

static struct training_option *find(const struct training_options *o, const char *name)
{
    size_t slot = o->slot_count > 0 ? slot_of(o, name) : 0;
    return o->slot_count > 0 && o->slots[slot] > 0 ? &o->items[o->slots[slot] - 1] : NULL;
}

/* Doubles the table, so that half of it stays free. */
static void grow(struct training_options *o)
{
    free(o->slots);
    o->slot_count = o->slot_count > 0 ? 2 * o->slot_count : 64;
    o->slots = xcalloc(o->slot_count, sizeof *o->slots);
    for (int i = 0; i < o->count; i++)
        o->slots[slot_of(o, o->items[i].name)] = i + 1;
    o->items = xrealloc(o->items, o->slot_count / 2 * sizeof *o->items);
}

void training_state_release(struct training_state *s)
{
    struct training_options *o = &s->options;
    for (int i = 0; i < o->count; i++) {
        free(o->items[i].name);
        free(o->items[i].value);
    }
    free(o->items);
    free(o->slots);
    *o = (struct training_options){0};
}

void training_state_set_option(struct training_state *s, const char *name, const char *value)
{
    struct training_options *o = &s->options;
    struct training_option *option = find(o, name);
    if (option) {
        char *copy = xstrdup(value); /* value may be the old one */
        free(option->value);
        option->value = copy;
        return;
    }
    if ((size_t)o->count == o->slot_count / 2)
        grow(o);
    size_t slot = slot_of(o, name);
    o->items[o->count] = (struct training_option){xstrdup(name), xstrdup(value)};
    o->slots[slot] = ++o->count;
}

const char *training_state_option(const struct training_state *s, const char *name)
{
    const struct training_option *option = find(&s->options, name);
    return option ? option->value : NULL;
}
