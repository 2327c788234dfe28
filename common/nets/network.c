#include "common/nets/network.h"

#include "common/nets/cloob.h"
#include "common/nets/kl.h"
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
