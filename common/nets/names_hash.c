#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "common/base/message.h"
#include "common/nets/names.h"

struct hashing {
    XXH3_state_t *state;
    size_t element;
};

static int hash_run(void *arg, const void *data, size_t count)
{
    struct hashing *h = arg;
    XXH3_128bits_update(h->state, data, count * h->element);
    return 0;
}

/* Returns the number of tensors for which takes(n, name) holds. */
static int hash_some(char hex[33], const struct named_weights *n,
                     bool (*takes)(const struct named_weights *n, const char *name))
{
    struct hashing h = {.state = xallocated(XXH3_createState())};
    int count = 0;
    XXH3_128bits_reset(h.state);
    for (int i = 0; i < n->count; i++) {
        const struct weight *t = &n->items[i];
        char text[640], shape[100];
        if (!takes(n, t->name))
            continue;
        weight_print_shape(shape, sizeof shape, t->ndim, t->shape);
        int size =
            snprintf(text, sizeof text, "%.300s %.100s %s\n", t->name, weight_type(t), shape);
        XXH3_128bits_update(h.state, text, (size_t)size);
        h.element = dtype_size(t->dtype);
        if (!t->unreadable)
            weight_stream(t, hash_run, &h);
        count++;
    }
    XXH128_hash_t hash = XXH3_128bits_digest(h.state);
    XXH3_freeState(h.state);
    snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
    return count;
}

static bool any(const struct named_weights *n, const char *name)
{
    return true;
}

static bool makes_data(const struct named_weights *n, const char *name)
{
    if (n->net == NET_CLOOB)
        return strncmp(name, "image_encoder.", 14) == 0;
    return strncmp(name, "encoder.", 8) == 0 || strncmp(name, "quant_conv.", 11) == 0;
}

void names_hash(char hex[33], const struct named_weights *n)
{
    hash_some(hex, n, any);
}

void names_encoder_hash(char hash[ENCODER_HASH_SIZE], const struct named_weights *n)
{
    char hex[33];
    const char *type = NULL;
    for (int i = 0; i < n->count && !type; i++)
        if (n->items[i].ndim > 1 && makes_data(n, n->items[i].name))
            type = dtype_name(n->items[i].dtype);
    *hash = '\0';
    if (type && hash_some(hex, n, makes_data) > 0)
        snprintf(hash, ENCODER_HASH_SIZE, "%s:%s", type, hex);
}

bool encoder_hashes_differ(const char *a, const char *b)
{
    size_t type = strcspn(a, ":");
    return *a && *b && strncmp(a, b, type + 1) == 0 && strcmp(a, b) != 0;
}
