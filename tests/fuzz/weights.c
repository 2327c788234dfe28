/* Weight files: safetensors, torch's zip and legacy formats, zips of these, pickles of numpy. Reads
 * all tensors and names. */
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/nets/network.h"
#include "formats/weights/weights.h"
#include "tests/fuzz/support/fuzz.h"

#define READ_MAX ((int64_t)1 << 20) /* elements; larger tensors are not converted */

static int touch(void *arg, const void *data, size_t count)
{
    const uint8_t *p = data;
    unsigned *sum = arg;
    for (size_t i = 0; i < count; i++)
        *sum += p[i];
    return 0;
}

/* A few bytes can describe tensors that share them, so the work is limited as well. */
static void read_tensors(const struct weights *w)
{
    unsigned sum = 0;
    int64_t left = READ_MAX;
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        int64_t count = weight_count(t);
        CHECK(weights_find(w, t->name) == t);
        CHECK(count >= 0 && t->ndim >= 0 && t->ndim <= WEIGHT_MAX_DIMS);
        CHECK(weight_type(t)[0] || t->unreadable);
        if (t->unreadable || count > left)
            continue;
        left -= count;
        weight_stream(t, touch, &sum);
        if (!weight_is_real(t))
            continue;
        float *values = xmalloc((size_t)count * sizeof *values + 1);
        weight_to_f32(t, values);
        free(values);
    }
    for (int i = 0; i < weights_metadata_count(w); i++) {
        const char *key, *value;
        weights_metadata_at(w, i, &key, &value);
        CHECK(strlen(key) + strlen(value) < SIZE_MAX && weights_metadata(w, key));
    }
}

static int64_t elements(const struct weights *w)
{
    int64_t total = 0;
    for (int i = 0; i < weights_count(w) && total <= READ_MAX; i++) {
        int64_t count = weight_count(weights_at(w, i));
        total = count > READ_MAX ? count : total + count;
    }
    return total;
}

static void read_names(const struct weights *w)
{
    bool small = elements(w) <= READ_MAX;
    for (int net = NET_UNET; net <= NET_DISCRIMINATOR; net++) {
        struct named_weights n;
        struct error e = {""};
        char line[100], hex[33];
        double scale;
        if (names_resolve(&n, w, (enum net)net, PICK_EMA, &e) == 0) {
            for (int i = 0; i < n.count; i++)
                CHECK(names_find(&n, n.items[i].name) == &n.items[i]);
            if (network_describe(line, sizeof line, &n, &e) == 0)
                CHECK(line[0]);
            if (small)
                names_hash(hex, &n);
            names_scalar(&n, "autoencoder_scale", &scale);
            names_release(&n);
        } else {
            CHECK(e.text[0]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weights *w;
    struct error e = {""};
    if (weights_open_memory(&w, data, size, &e) != 0) {
        CHECK(e.text[0]);
        return 0;
    }
    read_tensors(w);
    read_names(w);
    weights_close(w);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    size_t changed = seed % 2 ? mutate_safetensors(data, size, max_size) : 0;
    if (changed == 0)
        changed = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8)
        mend_zip(data, changed);
    return changed;
}
