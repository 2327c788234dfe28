#ifndef CCLD_NETS_NETWORK_H
#define CCLD_NETS_NETWORK_H

#include "common/nets/loader.h"

/* What every network can do, for code that works on any of them. `network` is the struct that the
 * network's own header declares: struct unet, struct kl, struct cloob, struct patch_discriminator.
 */
struct network_functions {
    int (*load)(void **network, const struct named_weights *names, struct device *d,
                struct error *e);
    void (*free)(void *network); /* NULL is fine */
    struct loader *(*loader)(void *network);
};

extern const struct network_functions unet_network, kl_network, cloob_network,
    patch_discriminator_network;

#endif
