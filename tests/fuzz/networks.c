/* Names and shapes of tensors, from which networks are detected, described and loaded. A line is a
 * name and up to eight sizes. */
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/lpips.h"
#include "common/nets/network.h"
#include "common/nets/patch_discriminator.h"
#include "common/nets/unet.h"
#include "formats/weights/weights_build.h"
#include "kernels/device.h"
#include "tests/fuzz/support/fuzz.h"

#define TENSORS_MAX  2000
#define ELEMENTS_MAX ((int64_t)1 << 18) /* of a tensor that is loaded */

static const float zeros[ELEMENTS_MAX];

/* Adds a line's tensor, unless no file could hold it. */
static void add_tensor(struct weights *w, char *line)
{
    char *at = NULL, *name = strtok_r(line, " ", &at), *word;
    if (!name || w->count == TENSORS_MAX)
        return;
    struct weight t = {.name = name, .dtype = DTYPE_F32, .data = zeros};
    while (t.ndim < WEIGHT_MAX_DIMS && (word = strtok_r(NULL, " ", &at)))
        t.shape[t.ndim++] = strtoll(word, NULL, 10);
    if (shape_bytes(t.ndim, t.shape, t.dtype) < 0)
        return;
    weight_set_row_major(&t);
    *weights_add(w, name) = t;
}

static int compare(const void *a, const void *b, void *items)
{
    const struct weight *t = items;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

/* Files have no two tensors of one name. */
static bool index_names(struct weights *w)
{
    w->by_name = xcalloc((size_t)w->count + 1, sizeof *w->by_name);
    for (int i = 0; i < w->count; i++)
        w->by_name[i] = i;
    qsort_r(w->by_name, (size_t)w->count, sizeof *w->by_name, compare, w->items);
    for (int i = 1; i < w->count; i++)
        if (compare(&w->by_name[i - 1], &w->by_name[i], w->items) == 0)
            return false;
    return true;
}

static void load(const struct named_weights *n)
{
    static struct device *device;
    struct error e = {""};
    if (!device)
        CHECK(device_open(&device, "ref", &e) == 0);
    for (int i = 0; i < n->count; i++)
        if (weight_count(&n->items[i]) > ELEMENTS_MAX)
            return;
    if (n->net == NET_LPIPS) {
        struct lpips *l;
        if (lpips_load(&l, n, device, &e) == 0)
            lpips_free(l);
        else
            CHECK(e.text[0]);
        return;
    }
    static const struct network_functions *const networks[] = {
        [NET_UNET] = &unet_network,
        [NET_KL] = &kl_network,
        [NET_CLOOB] = &cloob_network,
        [NET_DISCRIMINATOR] = &patch_discriminator_network,
    };
    void *network;
    if (networks[n->net]->load(&network, n, device, &e) == 0) {
        CHECK(networks[n->net]->loader(network)->count > 0);
        networks[n->net]->free(network);
    } else {
        CHECK(e.text[0]);
    }
}

static void resolve(const struct weights *w, enum net net, enum weights_pick pick)
{
    struct named_weights n;
    struct error e = {""};
    char line[100];
    if (names_resolve(&n, w, net, pick, &e) != 0) {
        CHECK(e.text[0]);
        return;
    }
    for (int i = 0; i < n.count; i++)
        CHECK(names_find(&n, n.items[i].name) == &n.items[i]);
    if (network_describe(line, sizeof line, &n, &e) == 0)
        CHECK(line[0]);
    else
        CHECK(e.text[0]);
    load(&n);
    names_release(&n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weights *w = xcalloc(1, sizeof *w);
    char *text = fuzz_text(data, size), *at = NULL;
    for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at))
        add_tensor(w, line);
    if (index_names(w)) {
        struct error e = {""};
        enum net net;
        if (names_detect(&net, w, &e) != 0)
            CHECK(e.text[0]);
        for (int i = NET_UNET; i <= NET_DISCRIMINATOR; i++)
            resolve(w, (enum net)i, size % 2 ? PICK_RAW : PICK_EMA);
    }
    weights_close(w);
    free(text);
    return 0;
}
