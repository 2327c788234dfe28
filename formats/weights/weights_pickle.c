#include "formats/weights/weights_pickle.h"
#include "formats/weights/weights_readers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX    24
#define STEPS_MAX    ((size_t)1 << 20)
#define TENSORS_MAX  100000
#define NAME_LONGEST ((size_t)1000)
#define METADATA_MAX 256

/* A dictionary can be a DICT, an object whose items were set one by one (Python 3's OrderedDict),
 * or an object created from a dictionary (haiku's FlatMapping) or from pairs (Python 2's
 * OrderedDict). This is a uniform view of `count` keys and values. */
struct mapping {
    const struct pickle_value *dict, *pairs; /* one of them is NULL */
    uint32_t count;
};

static bool is_mapping_class(const struct pickle_value *v)
{
    static const char *const classes[][2] = {
        {"collections", "OrderedDict"},
        {"haiku._src.data_structures", "FlatMapping"},
        {"haiku._src.data_structures", "FlatMap"},
        {"haiku._src.data_structures", "frozendict"},
        {"flax.core.frozen_dict", "FrozenDict"},
    };
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (pickle_is_global(v, classes[i][0], classes[i][1]))
            return true;
    return false;
}

static bool as_mapping(const struct pickle_value *v, struct mapping *m)
{
    *m = (struct mapping){0};
    if (v->kind == PICKLE_OBJECT && v->object.dict) {
        v = v->object.dict;
    } else if (v->kind == PICKLE_OBJECT && is_mapping_class(v->object.callable)) {
        const struct pickle_value *from = pickle_item(v->object.arguments, 0);
        if (!from)
            return true; /* empty */
        if (from->kind == PICKLE_LIST) {
            m->pairs = from;
            m->count = from->list.count;
            return true;
        }
        v = from;
    }
    if (v->kind != PICKLE_DICT)
        return false;
    m->dict = v;
    m->count = v->list.count / 2;
    return true;
}

static void mapping_entry(const struct mapping *m, uint32_t i, struct pickle_value **key,
                          struct pickle_value **value)
{
    if (m->dict) {
        *key = m->dict->list.items[2 * i];
        *value = m->dict->list.items[2 * i + 1];
    } else {
        *key = pickle_item(m->pairs->list.items[i], 0);
        *value = pickle_item(m->pairs->list.items[i], 1);
    }
}

struct walk {
    struct pickle_source *s;
    size_t steps;
    struct pickle_search search;
    char name[NAME_LONGEST + 1];
    struct error *e;
};

/* Appends ".key" to the first `length` bytes of the name. Returns the new length, or -1 if the key
 * is unusable. */
static int push_name(struct walk *k, size_t length, const char *key, size_t size)
{
    if (size > NAME_LONGEST - 1 || length + 1 + size > NAME_LONGEST || memchr(key, 0, size))
        return -1;
    if (length > 0)
        k->name[length++] = '.';
    memcpy(k->name + length, key, size);
    k->name[length + size] = 0;
    return (int)(length + size);
}

static int push_key(struct walk *k, size_t length, const struct pickle_value *key)
{
    char digits[24];
    if (!key)
        return -1;
    if (key->kind == PICKLE_TEXT || key->kind == PICKLE_BYTES)
        return push_name(k, length, key->string.bytes, key->string.size);
    if (key->kind != PICKLE_INT)
        return -1;
    snprintf(digits, sizeof digits, "%" PRId64, key->integer);
    return push_name(k, length, digits, strlen(digits));
}

/* Adds t under the first `length` bytes of the name. */
static int add_weight(struct walk *k, const struct weight *t, size_t length)
{
    if (k->s->w->count == TENSORS_MAX)
        return error_set(k->e, "more than %d tensors", TENSORS_MAX);
    struct weight *added = weights_add(k->s->w, NULL);
    *added = *t;
    added->name = arena_text(&k->s->w->arena, k->name, length);
    return 0;
}

static int add_unreadable(struct walk *k, size_t length, const char *what)
{
    struct weight t = {0};
    weight_set_unreadable(&t, what);
    return add_weight(k, &t, length);
}

/* What an object is, if it is a tensor of a kind unknown here, made by a function such as
 * _rebuild_sparse_tensor, or if it has tensors in it; otherwise NULL. */
static const char *tensor_kind(struct walk *k, struct pickle_value *v)
{
    static const char rebuild[] = "_rebuild_";
    const struct pickle_value *f = v->object.callable;
    const size_t skip = sizeof rebuild - 1;
    if (f->kind != PICKLE_GLOBAL)
        return pickle_holds_tensor(&k->search, v) ? "object" : NULL;
    if (pickle_is_within(f, "numpy"))
        return pickle_holds_tensor(&k->search, v) ? "array of objects" : NULL;
    struct pickle_string name = f->global.name;
    if (pickle_is_within(f, "torch") && name.size > skip && memcmp(name.bytes, rebuild, skip) == 0)
        return arena_text(&k->s->w->arena, name.bytes + skip, name.size - skip);
    return pickle_holds_tensor(&k->search, v) ? arena_text(&k->s->w->arena, name.bytes, name.size)
                                              : NULL;
}

static int add_tensor(struct walk *k, struct pickle_value *v, size_t length)
{
    struct weight t = {0};
    enum tensor_result r = torch_tensor(k->s, v, &t, k->e);
    if (r == TENSOR_NOT_ONE)
        r = numpy_tensor(k->s, v, &t, k->e);
    if (r == TENSOR_BAD)
        return error_prefix(k->e, "tensor '%.100s'", k->name);
    if (r == TENSOR_FILLED)
        return add_weight(k, &t, length);
    const char *kind = tensor_kind(k, v);
    if (kind && length > 0)
        return add_unreadable(k, length, kind);
    k->s->w->opaque++;
    return 0;
}

/* A tensor under a key that gives no name must not get lost. */
static int add_unnamed(struct walk *k, struct pickle_value *v, size_t length, uint32_t entry)
{
    char text[24];
    if (!pickle_holds_tensor(&k->search, v))
        return 0;
    snprintf(text, sizeof text, "?%" PRIu32, entry);
    int longer = push_name(k, length, text, strlen(text));
    return longer < 0 ? error_set(k->e, "a name of more than %zu bytes", NAME_LONGEST)
                      : add_unreadable(k, (size_t)longer, "tensor without a name");
}

/* Items of a list, or of an object that has some as a list has. */
static const struct pickle_value *as_list(const struct pickle_value *v)
{
    if (v->kind == PICKLE_OBJECT)
        return v->object.list;
    return v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST ? v : NULL;
}

/* Values may be shared and cyclic: DEPTH_MAX bounds the recursion, STEPS_MAX the work. */
static int walk(struct walk *k, struct pickle_value *v, size_t length, int depth)
{
    struct mapping m;
    const struct pickle_value *list;
    if (++k->steps > STEPS_MAX || depth > DEPTH_MAX)
        return error_set(k->e, "pickled values nested or shared too deeply");
    if (as_mapping(v, &m)) {
        for (uint32_t i = 0; i < m.count; i++) {
            struct pickle_value *key, *value;
            mapping_entry(&m, i, &key, &value);
            int longer = push_key(k, length, key);
            if (value && (longer < 0 ? add_unnamed(k, value, length, i)
                                     : walk(k, value, (size_t)longer, depth + 1)) != 0)
                return -1;
        }
    } else if ((list = as_list(v))) {
        for (uint32_t i = 0; i < list->list.count; i++) {
            char digits[24];
            snprintf(digits, sizeof digits, "%" PRIu32, i);
            int longer = push_name(k, length, digits, strlen(digits));
            if ((longer < 0 ? add_unnamed(k, list->list.items[i], length, i)
                            : walk(k, list->list.items[i], (size_t)longer, depth + 1)) != 0)
                return -1;
        }
    } else if (v->kind == PICKLE_OBJECT) {
        return add_tensor(k, v, length);
    } else if (torch_is_storage(v) && length > 0) {
        return add_unreadable(k, length, "storage");
    }
    return 0;
}

static void add_metadata(struct weights *w, const struct pickle_value *key,
                         const struct pickle_value *value)
{
    char text[64];
    if (key->kind != PICKLE_TEXT || key->string.size > NAME_LONGEST)
        return;
    const char *name = arena_text(&w->arena, key->string.bytes, key->string.size);
    if (value->kind == PICKLE_INT)
        snprintf(text, sizeof text, "%" PRId64, value->integer);
    else if (value->kind == PICKLE_FLOAT)
        snprintf(text, sizeof text, "%.17g", value->number);
    else if (value->kind == PICKLE_BOOL)
        snprintf(text, sizeof text, "%s", value->integer ? "true" : "false");
    else if (value->kind == PICKLE_TEXT && value->string.size <= NAME_LONGEST) {
        weights_add_metadata(w, name,
                             arena_text(&w->arena, value->string.bytes, value->string.size));
        return;
    } else
        return;
    weights_add_metadata(w, name, arena_text(&w->arena, text, strlen(text)));
}

int pickle_flatten(struct pickle_source *s, const struct pickle_value *root, struct error *e)
{
    struct walk *k = malloc(sizeof *k);
    if (!k)
        return error_set(e, "out of memory");
    *k = (struct walk){.s = s, .e = e};
    struct pickle_value *start = (struct pickle_value *)root;
    struct mapping m, inner;
    if (as_mapping(root, &m)) {
        for (uint32_t i = 0; i < m.count; i++) {
            struct pickle_value *key, *value;
            mapping_entry(&m, i, &key, &value);
            if (!key || !value)
                continue;
            if (s->w->metadata_count < METADATA_MAX)
                add_metadata(s->w, key, value);
            if (pickle_is_text(key, "state_dict") && as_mapping(value, &inner))
                start = value;
        }
    }
    int status = walk(k, start, 0, 0);
    free(k);
    if (status == 0 && s->w->count == 0)
        return error_set(e, root->kind == PICKLE_OBJECT && !as_mapping(root, &m)
                                ? "a pickled object, not a dictionary of tensors"
                                : "a pickle without tensors");
    return status;
}

int weights_pickle_read(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    struct pickle p;
    if (pickle_read(&p, &w->arena, data, size, e) != 0) {
        bool is_pickle = size >= 2 && data[0] == 0x80 && data[1] <= 5;
        return is_pickle ? -1 : error_set(e, "not a weight file of a known format");
    }
    struct pickle_source s = {.w = w, .copy_budget = size};
    strcpy(w->format, "pickle");
    return pickle_flatten(&s, p.root, e);
}
