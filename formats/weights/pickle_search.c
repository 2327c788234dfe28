#include <stdlib.h>

#include "common/base/message.h"
#include "formats/weights/pickle_values.h"

#define SEARCHED_MAX ((size_t)4 << 20) /* values, in all searches of one file */

struct search {
    struct pickle_value **stack; /* still to look at */
    size_t depth, capacity;
    struct pickle_search *all;
};

static void push(struct search *s, struct pickle_value *v)
{
    if (!v || v->searched == s->all->number)
        return;
    v->searched = s->all->number;
    if (s->depth == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 256;
        s->stack = xrealloc(s->stack, s->capacity * sizeof(struct pickle_value *));
    }
    s->stack[s->depth++] = v;
    s->all->values++;
}

static void push_parts(struct search *s, struct pickle_value *v)
{
    if (v->kind == PICKLE_OBJECT) {
        push(s, v->object.arguments);
        push(s, v->object.state);
        push(s, v->object.list);
        push(s, v->object.dict);
    } else if (v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST || v->kind == PICKLE_DICT) {
        for (uint32_t i = 0; i < v->list.count; i++)
            push(s, v->list.items[i]);
    }
}

bool pickle_holds_tensor(struct pickle_search *all, struct pickle_value *v)
{
    struct search s = {.all = all};
    bool found = false;
    all->number++;
    push(&s, v);
    while (s.depth > 0 && !found) {
        struct pickle_value *next = s.stack[--s.depth];
        found = torch_is_storage(next) || numpy_is_array(next) || all->values > SEARCHED_MAX;
        /* The state of a random number generator is not a tensor. */
        if (next->kind != PICKLE_OBJECT || !pickle_is_within(next->object.callable, "numpy.random"))
            push_parts(&s, next);
    }
    free(s.stack);
    return found;
}
