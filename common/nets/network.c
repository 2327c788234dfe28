#include "common/nets/network.h"

#include "common/base/progress.h"
#include "common/nets/cloob.h"
#include "common/nets/description.h"
#include "common/nets/kl.h"
#include "common/nets/lpips.h"
#include "common/nets/patch_discriminator.h"
#include "common/nets/unet.h"

/* NAME_network in terms of NAME_load, NAME_free and NAME_loader. */
#define NETWORK(name)                                                                              \
    static int load_##name(void **network, const struct named_weights *names, struct device *d,    \
                           struct error *e)                                                        \
    {                                                                                              \
        struct name *loaded = NULL;                                                                \
        int status = name##_load(&loaded, names, d, e);                                            \
        *network = loaded;                                                                         \
        return status;                                                                             \
    }                                                                                              \
    static void free_##name(void *network)                                                         \
    {                                                                                              \
        name##_free(network);                                                                      \
    }                                                                                              \
    static struct loader *loader_of_##name(void *network)                                          \
    {                                                                                              \
        return name##_loader(network);                                                             \
    }                                                                                              \
    const struct network_functions name##_network = {                                              \
        .load = load_##name, .free = free_##name, .loader = loader_of_##name};

NETWORK(unet)
NETWORK(kl)
NETWORK(cloob)
NETWORK(patch_discriminator)

/* NULL: all tensors are trained. */
static enum tensor_kind (*const kinds[])(const char *name) = {
    [NET_UNET] = unet_tensor_kind,
    [NET_KL] = kl_tensor_kind,
    [NET_DISCRIMINATOR] = NULL,
};

enum tensor_kind tensor_kind_of(enum net net, const char *name)
{
    return kinds[net] ? kinds[net](name) : TENSOR_TRAINED;
}

int network_describe(char *text, size_t size, const struct named_weights *n, struct error *e)
{
    static int (*const describe[])(struct description *, const struct named_weights *,
                                   struct error *) = {
        [NET_UNET] = unet_describe,
        [NET_KL] = kl_describe,
        [NET_CLOOB] = cloob_describe,
        [NET_LPIPS] = lpips_describe,
        [NET_DISCRIMINATOR] = patch_discriminator_describe,
    };
    struct description d = {text, size, 0};
    char count[32];
    text[0] = 0;
    if (describe[n->net](&d, n, e) != 0)
        return -1;
    description_add(&d, ", %s parameters",
                    format_count(count, architecture_parameters(n, kinds[n->net])));
    return 0;
}
