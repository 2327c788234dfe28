#ifndef CCLD_NETS_NETWORK_H
#define CCLD_NETS_NETWORK_H

#include "common/nets/architecture.h"
#include "common/nets/loader.h"

/* What holds for every network, in terms of the networks' own files. */

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

/* The kind of the network's tensor with this name (ours). */
enum tensor_kind tensor_kind_of(enum net net, const char *name);

/* One line with the sizes that shapes tell and the number of parameters: "U-Net, base 192,
 * multipliers 4,4,8,8, 1,174,321,228 parameters". Reads no data. Fails with the name of a tensor
 * that is missing. */
int network_describe(char *text, size_t size, const struct named_weights *n, struct error *e);

#endif
