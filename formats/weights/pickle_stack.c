#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/weights/pickle_reader.h"

#define NODES_MAX ((size_t)4 << 20)  /* values; a checkpoint of 2,000 tensors has about 50,000 */
#define SLOTS_MAX ((size_t)16 << 20) /* items in lists, dictionaries and tuples */
#define STACK_MAX ((size_t)4 << 20)
#define MEMO_MAX  ((uint64_t)4 << 20)

int pickle_bad(struct pickle_reader *r, const char *what)
{
    error_set(r->e, "bad pickle at byte %zu: %s", (size_t)(r->at - r->start), what);
    return -1;
}

int pickle_truncated(struct pickle_reader *r)
{
    error_set(r->e, "truncated pickle");
    return -1;
}

/* Grows an array by doubling until index count fits; the caller has checked the limit. */
static void *grown(void *array, size_t *capacity, size_t count, size_t element)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? 2 * *capacity : 256;
    while (*capacity <= count)
        *capacity *= 2;
    return xrealloc(array, *capacity * element);
}

struct pickle_value *pickle_new(struct pickle_reader *r, enum pickle_kind kind)
{
    if (r->nodes == NODES_MAX) {
        pickle_bad(r, "too many values");
        return NULL;
    }
    r->nodes++;
    struct pickle_value *v = arena_allocate(r->arena, sizeof *v);
    *v = (struct pickle_value){.kind = kind};
    return v;
}

int pickle_push(struct pickle_reader *r, struct pickle_value *v)
{
    if (!v)
        return -1;
    if (r->depth == STACK_MAX)
        return pickle_bad(r, "stack overflow");
    r->stack = grown(r->stack, &r->stack_capacity, r->depth, sizeof *r->stack);
    r->stack[r->depth++] = v;
    return 0;
}

static size_t floor_of(const struct pickle_reader *r)
{
    return r->mark_count ? r->marks[r->mark_count - 1] : 0;
}

struct pickle_value *pickle_pop(struct pickle_reader *r)
{
    if (r->depth <= floor_of(r)) {
        pickle_bad(r, "stack underflow");
        return NULL;
    }
    return r->stack[--r->depth];
}

struct pickle_value *pickle_top(struct pickle_reader *r)
{
    if (r->depth <= floor_of(r)) {
        pickle_bad(r, "stack underflow");
        return NULL;
    }
    return r->stack[r->depth - 1];
}

int pickle_push_mark(struct pickle_reader *r)
{
    if (r->mark_count == STACK_MAX)
        return pickle_bad(r, "too many marks");
    r->marks = grown(r->marks, &r->mark_capacity, r->mark_count, sizeof *r->marks);
    r->marks[r->mark_count++] = r->depth;
    return 0;
}

int pickle_pop_to_mark(struct pickle_reader *r, struct pickle_value ***items, size_t *count)
{
    if (r->mark_count == 0)
        return pickle_bad(r, "no mark");
    size_t mark = r->marks[--r->mark_count];
    *items = r->stack + mark;
    *count = r->depth - mark;
    r->depth = mark;
    return 0;
}

static int extend(struct pickle_reader *r, struct pickle_value *list,
                  struct pickle_value *const *items, size_t count)
{
    size_t have = list->list.count;
    if (count > list->list.capacity - have) {
        size_t capacity = have + count > 2 * have ? have + count : 2 * have;
        if (capacity > SLOTS_MAX - r->slots)
            return pickle_bad(r, "too many values");
        r->slots += capacity;
        struct pickle_value **more = arena_allocate(r->arena, capacity * sizeof(void *));
        if (have > 0)
            memcpy(more, list->list.items, have * sizeof(void *));
        list->list.items = more;
        list->list.capacity = (uint32_t)capacity;
    }
    if (count > 0)
        memcpy(list->list.items + have, items, count * sizeof(void *));
    list->list.count += (uint32_t)count;
    return 0;
}

struct pickle_value *pickle_sequence(struct pickle_reader *r, enum pickle_kind kind,
                                     struct pickle_value *const *items, size_t count)
{
    struct pickle_value *v = pickle_new(r, kind);
    return v && extend(r, v, items, count) == 0 ? v : NULL;
}

int pickle_push_tuple(struct pickle_reader *r, size_t count)
{
    if (r->depth - floor_of(r) < count)
        return pickle_bad(r, "stack underflow");
    struct pickle_value *v = pickle_sequence(r, PICKLE_TUPLE, r->stack + r->depth - count, count);
    if (v)
        r->depth -= count;
    return pickle_push(r, v);
}

int pickle_push_marked(struct pickle_reader *r, enum pickle_kind kind)
{
    struct pickle_value **items;
    size_t count;
    if (pickle_pop_to_mark(r, &items, &count) != 0)
        return -1;
    if (kind == PICKLE_DICT && count % 2 != 0)
        return pickle_bad(r, "a key without a value");
    return pickle_push(r, pickle_sequence(r, kind, items, count));
}

int pickle_push_int(struct pickle_reader *r, enum pickle_kind kind, int64_t value)
{
    struct pickle_value *v = pickle_new(r, kind);
    if (v)
        v->integer = value;
    return pickle_push(r, v);
}

int pickle_push_float(struct pickle_reader *r, double value)
{
    struct pickle_value *v = pickle_new(r, PICKLE_FLOAT);
    if (v)
        v->number = value;
    return pickle_push(r, v);
}

int pickle_push_string(struct pickle_reader *r, enum pickle_kind kind, const void *bytes,
                       size_t size)
{
    struct pickle_value *v = pickle_new(r, kind);
    if (v)
        v->string = (struct pickle_string){bytes, size};
    return pickle_push(r, v);
}

int pickle_push_global(struct pickle_reader *r, struct pickle_string module,
                       struct pickle_string name)
{
    struct pickle_value *v = pickle_new(r, PICKLE_GLOBAL);
    if (v) {
        v->global.module = module;
        v->global.name = name;
    }
    return pickle_push(r, v);
}

int pickle_push_object(struct pickle_reader *r, struct pickle_value *callable,
                       struct pickle_value *arguments)
{
    struct pickle_value *v = callable && arguments ? pickle_new(r, PICKLE_OBJECT) : NULL;
    if (v) {
        v->object.callable = callable;
        v->object.arguments = arguments;
    }
    return pickle_push(r, v);
}

int pickle_push_persistent(struct pickle_reader *r, struct pickle_value *id)
{
    struct pickle_value *v = id ? pickle_new(r, PICKLE_PERSISTENT) : NULL;
    if (v) {
        v->persistent.id = id;
        v->persistent.previous = r->last_persistent;
        r->last_persistent = v;
    }
    return pickle_push(r, v);
}

int pickle_memo_put(struct pickle_reader *r, uint64_t index)
{
    struct pickle_value *v = pickle_top(r);
    if (!v)
        return -1;
    if (index >= MEMO_MAX)
        return pickle_bad(r, "memo index too large");
    size_t before = r->memo_capacity;
    r->memo = grown(r->memo, &r->memo_capacity, (size_t)index, sizeof *r->memo);
    memset(r->memo + before, 0, (r->memo_capacity - before) * sizeof *r->memo);
    r->memo_count += !r->memo[index];
    r->memo[index] = v;
    return 0;
}

int pickle_memo_get(struct pickle_reader *r, uint64_t index)
{
    if (index >= r->memo_capacity || !r->memo[index])
        return pickle_bad(r, "unset memo index");
    return pickle_push(r, r->memo[index]);
}

/* The target of APPEND(S) or SETITEM(S): the value itself, or an object's list or dict. */
static struct pickle_value *target(struct pickle_reader *r, struct pickle_value *v,
                                   enum pickle_kind kind)
{
    if (!v || v->kind == kind)
        return v;
    if (v->kind != PICKLE_OBJECT) {
        pickle_bad(r, "items added to a value that has none");
        return NULL;
    }
    struct pickle_value **slot = kind == PICKLE_LIST ? &v->object.list : &v->object.dict;
    if (!*slot)
        *slot = pickle_new(r, kind);
    return *slot;
}

static int add_items(struct pickle_reader *r, enum pickle_kind kind,
                     struct pickle_value *const *items, size_t count)
{
    if (kind == PICKLE_DICT && count % 2 != 0)
        return pickle_bad(r, "a key without a value");
    struct pickle_value *t = target(r, pickle_top(r), kind);
    return t ? extend(r, t, items, count) : -1;
}

int pickle_add_marked(struct pickle_reader *r, enum pickle_kind kind)
{
    struct pickle_value **items;
    size_t count;
    return pickle_pop_to_mark(r, &items, &count) != 0 ? -1 : add_items(r, kind, items, count);
}

int pickle_add_popped(struct pickle_reader *r, enum pickle_kind kind, size_t count)
{
    if (r->depth - floor_of(r) < count + 1)
        return pickle_bad(r, "stack underflow");
    r->depth -= count;
    return add_items(r, kind, r->stack + r->depth, count);
}

int pickle_drop(struct pickle_reader *r)
{
    if (r->depth > floor_of(r)) {
        r->depth--;
        return 0;
    }
    if (r->mark_count == 0)
        return pickle_bad(r, "stack underflow");
    r->mark_count--;
    return 0;
}

int pickle_drop_marked(struct pickle_reader *r)
{
    struct pickle_value **items;
    size_t count;
    return pickle_pop_to_mark(r, &items, &count);
}

void pickle_reader_init(struct pickle_reader *r, struct arena *arena, const uint8_t *data,
                        size_t size, struct error *e)
{
    *r = (struct pickle_reader){
        .arena = arena, .start = data, .at = data, .end = data + size, .e = e};
    r->stack = grown(NULL, &r->stack_capacity, 0, sizeof *r->stack); /* never NULL */
}

void pickle_reader_release(struct pickle_reader *r)
{
    free(r->stack);
    free(r->marks);
    free(r->memo);
}
