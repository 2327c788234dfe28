#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "common/base/message.h"
#include "common/nets/names.h"

#define CHUNK 1024 /* elements */

struct hashing {
    XXH3_state_t *state;
    size_t element; /* of what is streamed, in bytes */
    bool halves;    /* F32 is hashed as F16 */
};

typedef bool takes_function(const struct named_weights *n, const char *name);

static int hash_run(void *arg, const void *data, size_t count)
{
    struct hashing *h = arg;
    if (!h->halves)
        XXH3_128bits_update(h->state, data, count * h->element);
    for (size_t at = 0; h->halves && at < count; at += CHUNK) {
        float x[CHUNK];
        uint16_t half[CHUNK];
        size_t some = count - at < CHUNK ? count - at : CHUNK;
        memcpy(x, (const char *)data + at * sizeof *x, some * sizeof *x);
        dtype_from_f32(DTYPE_F16, half, x, some);
        XXH3_128bits_update(h->state, half, some * sizeof *half);
    }
    return 0;
}

/* Returns the number of tensors for which takes(n, name) holds. */
static int hash_some(char hex[33], const struct named_weights *n, takes_function *takes,
                     bool halves)
{
    struct hashing h = {.state = xallocated(XXH3_createState())};
    int count = 0;
    XXH3_128bits_reset(h.state);
    for (int i = 0; i < n->count; i++) {
        const struct weight *t = &n->items[i];
        char text[640], shape[100];
        if (!takes(n, t->name))
            continue;
        h.halves = halves && t->dtype == DTYPE_F32;
        weight_print_shape(shape, sizeof shape, t->ndim, t->shape);
        int size = snprintf(text, sizeof text, "%.300s %.100s %s\n", t->name,
                            h.halves ? dtype_name(DTYPE_F16) : weight_type(t), shape);
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

/* Stops at the first number that F16 cannot hold. */
static int check_run(void *arg, const void *data, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float x;
        memcpy(&x, (const char *)data + i * sizeof x, sizeof x);
        if (f16_to_f32(f32_to_f16(x)) != x)
            return -1;
    }
    return 0;
}

/* Whether F16 can hold all F32 numbers of the tensors, as after training that left them alone. */
static bool fit_half(const struct named_weights *n, takes_function *takes)
{
    for (int i = 0; i < n->count; i++) {
        const struct weight *t = &n->items[i];
        if (takes(n, t->name) && t->dtype == DTYPE_F32 && !t->unreadable &&
            weight_stream(t, check_run, NULL) != 0)
            return false;
    }
    return true;
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
    hash_some(hex, n, any, false);
}

void names_encoder_hash(char hash[ENCODER_HASH_SIZE], const struct named_weights *n)
{
    char hex[33];
    const char *type = NULL;
    bool halves = fit_half(n, makes_data);
    for (int i = 0; i < n->count && !type; i++) {
        enum dtype d = n->items[i].dtype;
        if (n->items[i].ndim > 1 && makes_data(n, n->items[i].name))
            type = dtype_name(halves && d == DTYPE_F32 ? DTYPE_F16 : d);
    }
    *hash = '\0';
    if (type && hash_some(hex, n, makes_data, halves) > 0)
        snprintf(hash, ENCODER_HASH_SIZE, "%s:%s", type, hex);
}

bool encoder_hashes_differ(const char *a, const char *b)
{
    size_t type = strcspn(a, ":");
    return *a && *b && strncmp(a, b, type + 1) == 0 && strcmp(a, b) != 0;
}
