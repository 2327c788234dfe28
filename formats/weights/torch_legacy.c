#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/weights/weights_pickle.h"
#include "formats/weights/weights_readers.h"

/* torch.save before PyTorch 1.6: five pickles (a magic number, the protocol version 1001, a
 * dictionary with the byte order, the object, a list of storage keys), then for each key a 64-bit
 * count of elements and the elements. Only the object's persistent ids tell the element types. */

static const uint8_t magic[] = {0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

struct storage {
    struct pickle_string key;
    const struct torch_type *type;
    const uint8_t *data; /* NULL until place_storages */
    size_t size;
};

struct legacy {
    struct storage *storages; /* sorted by key */
    size_t count;
    bool big_endian;
};

bool torch_legacy_recognize(const uint8_t *data, size_t size)
{
    /* The magic number follows the protocol and, since protocol 4, the frame length. */
    size_t at = size > 2 && data[2] == 0x95 ? 11 : 2;
    return size >= at + sizeof magic && data[0] == 0x80 &&
           memcmp(data + at, magic, sizeof magic) == 0;
}

static int compare_keys(struct pickle_string a, struct pickle_string b)
{
    int order = memcmp(a.bytes, b.bytes, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_storages(const void *a, const void *b)
{
    const struct storage *x = a, *y = b;
    return compare_keys(x->key, y->key);
}

static struct storage *find(const struct legacy *l, struct pickle_string key)
{
    struct storage wanted = {.key = key};
    return l->count == 0 ? NULL
                         : bsearch(&wanted, l->storages, l->count, sizeof wanted, compare_storages);
}

/* Makes one entry per key that occurs in persistent ids. */
static int collect_storages(struct legacy *l, struct arena *arena, const struct pickle *p,
                            struct error *e)
{
    size_t most = 0;
    for (struct pickle_value *v = p->last_persistent; v; v = v->persistent.previous)
        most++;
    l->storages = arena_allocate(arena, most * sizeof *l->storages);
    for (struct pickle_value *v = p->last_persistent; v; v = v->persistent.previous) {
        const struct pickle_value *id = v->persistent.id, *key = pickle_item(id, 2);
        struct storage s = {0};
        if (!pickle_is_text(pickle_item(id, 0), "storage") || !key ||
            (key->kind != PICKLE_TEXT && key->kind != PICKLE_BYTES))
            continue;
        if (!(s.type = torch_type_of_storage(pickle_item(id, 1))))
            return error_set(e, "a storage with an unknown element type");
        s.key = key->string;
        l->storages[l->count++] = s;
    }
    qsort(l->storages, l->count, sizeof *l->storages, compare_storages);
    size_t unique = 0;
    for (size_t i = 0; i < l->count; i++)
        if (unique == 0 || compare_storages(&l->storages[unique - 1], &l->storages[i]) != 0)
            l->storages[unique++] = l->storages[i];
        else if (l->storages[unique - 1].type->element != l->storages[i].type->element)
            return error_set(e, "a storage with two element types");
    l->count = unique;
    return 0;
}

static int place_storages(struct pickle_source *s, const struct pickle_value *keys,
                          const uint8_t *data, size_t size, struct error *e)
{
    struct legacy *l = s->container;
    if (keys->kind != PICKLE_LIST)
        return error_set(e, "no list of storages");
    for (uint32_t i = 0; i < keys->list.count; i++) {
        const struct pickle_value *key = keys->list.items[i];
        struct storage *found =
            key->kind == PICKLE_TEXT || key->kind == PICKLE_BYTES ? find(l, key->string) : NULL;
        uint64_t count;
        if (!found || found->data)
            return error_set(e, "a storage that is unused or listed twice");
        if (size < 8)
            return error_set(e, "truncated torch checkpoint");
        memcpy(&count, data, 8);
        if (l->big_endian)
            count = __builtin_bswap64(count);
        data += 8, size -= 8;
        const size_t element = found->type->element, swap = found->type->swap;
        if (count > size / element)
            return error_set(e, "truncated torch checkpoint");
        found->data = data;
        found->size = (size_t)count * element;
        data += found->size, size -= found->size;
        if (l->big_endian &&
            !(found->data = byte_swapped(s, found->data, found->size / swap, swap)))
            return error_set(e, "too large for byte swapping");
    }
    return 0;
}

static int find_storage(struct pickle_source *s, struct pickle_string key,
                        const struct torch_type *stored, const struct torch_type *type,
                        const uint8_t **data, size_t *size, struct error *e)
{
    const struct legacy *l = s->container;
    struct storage *found = find(l, key);
    if (!found || !found->data || found->type->element != stored->element)
        return error_set(e, "its storage is missing from the file");
    if (l->big_endian && type->swap != found->type->swap)
        return error_set(e, "big-endian elements in a storage of bytes");
    *data = found->data;
    *size = found->size;
    return 0;
}

static bool is_big_endian(const struct pickle_value *system)
{
    if (system->kind != PICKLE_DICT)
        return false;
    for (uint32_t i = 0; i + 1 < system->list.count; i += 2) {
        const struct pickle_value *value = system->list.items[i + 1];
        if (pickle_is_text(system->list.items[i], "little_endian"))
            return value->kind == PICKLE_BOOL && !value->integer;
    }
    return false;
}

int torch_legacy_read(struct weights *w, const uint8_t *data, size_t size, struct error *e)
{
    struct pickle p[5]; /* magic, version, system, object, keys */
    size_t at = 0;
    for (int i = 0; i < 5; i++) {
        if (pickle_read(&p[i], &w->arena, data + at, size - at, e) != 0)
            return error_prefix(e, "torch checkpoint");
        at += p[i].size;
    }
    if (p[1].root->kind != PICKLE_INT || p[1].root->integer != 1001)
        return error_set(e, "unknown torch checkpoint version");
    struct legacy l = {.big_endian = is_big_endian(p[2].root)};
    struct pickle_source s = {
        .w = w, .find_storage = find_storage, .container = &l, .copy_budget = size};
    strcpy(w->format, "torch legacy");
    if (collect_storages(&l, &w->arena, &p[3], e) != 0 ||
        place_storages(&s, p[4].root, data + at, size - at, e) != 0)
        return -1;
    return pickle_flatten(&s, p[3].root, e);
}
