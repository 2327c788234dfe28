#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/weights/weights_pickle.h"
#include "formats/weights/weights_readers.h"

/* torch.save since PyTorch 1.6: a zip with ROOT/data.pkl, a pickle whose persistent ids name
 * storages; one member ROOT/data/KEY per storage; and, since 2.1, ROOT/byteorder. */

struct torch_zip {
    struct zip *z;
    size_t root; /* length of "ROOT/" in member names */
    const char *pickle_name;
    bool big_endian;
};

static struct zip_member *find(const struct torch_zip *t, const char *folder,
                               struct pickle_string name)
{
    if (name.size > 1000 || memchr(name.bytes, 0, name.size))
        return NULL;
    char *path =
        xasprintf("%.*s%s%.*s", (int)t->root, t->pickle_name, folder, (int)name.size, name.bytes);
    struct zip_member *m = zip_find(t->z, path);
    free(path);
    return m;
}

static int find_storage(struct pickle_source *s, struct pickle_string key,
                        const struct torch_type *stored, const struct torch_type *type,
                        const uint8_t **data, size_t *size, struct error *e)
{
    struct torch_zip *t = s->container;
    struct zip_member *m = find(t, "data/", key);
    if (!m)
        return error_set(e, "its storage is missing from the archive");
    bool opened = m->data;
    if (zip_open_member(t->z, m, e) != 0)
        return -1;
    if (t->big_endian && !opened) {
        const uint8_t *swapped = byte_swapped(s, m->data, (size_t)m->size / type->swap, type->swap);
        if (!swapped)
            return error_set(e, "too large for byte swapping");
        m->data = swapped;
        m->size -= m->size % type->swap;
    }
    *data = m->data;
    *size = (size_t)m->size;
    return 0;
}

int torch_zip_read(struct weights *w, struct zip *z, struct error *e)
{
    struct torch_zip t = {.z = z};
    struct zip_member *main_pickle = NULL;
    for (size_t i = 0; i < z->count && !main_pickle; i++) {
        const char *name = z->members[i].name;
        size_t n = strlen(name);
        if (n >= 8 && strcmp(name + n - 8, "data.pkl") == 0 && (n == 8 || name[n - 9] == '/')) {
            main_pickle = &z->members[i];
            t.pickle_name = name;
            t.root = n - 8;
        }
    }
    CHECK(main_pickle);
    struct zip_member *order = find(&t, "", (struct pickle_string){"byteorder", 9});
    if (order) {
        if (zip_open_member(z, order, e) != 0)
            return -1;
        t.big_endian = order->size == 3 && memcmp(order->data, "big", 3) == 0;
    }
    struct pickle p;
    if (zip_open_member(z, main_pickle, e) != 0 ||
        pickle_read(&p, &w->arena, main_pickle->data, (size_t)main_pickle->size, e) != 0)
        return error_prefix(e, "data.pkl in the checkpoint");
    struct pickle_source s = {
        .w = w, .find_storage = find_storage, .container = &t, .copy_budget = z->size};
    strcpy(w->format, "torch zip");
    return pickle_flatten(&s, p.root, e);
}
