#ifndef CCLD_NETS_UNET_INTERNAL_H
#define CCLD_NETS_UNET_INTERNAL_H

#include "common/nets/unet.h"

/* The loaded U-Net, for unet_tensors.c, which builds it, and unet.c, which runs it. */

/* The reference's network is a list of modules, some of which hold a list of their own. */
enum module_kind {
    MODULE_CONV_BLOCK, /* residual: conv, norm, modulation, ReLU, twice */
    MODULE_ATTENTION,  /* residual */
    MODULE_SKIP,       /* concat(inner list(x), x) */
    MODULE_DOWN,
    MODULE_UP,
};

struct module_list {
    struct module *items;
    int count;
};

struct module {
    enum module_kind kind;
    union {
        struct {
            struct tensor *weight[2], *bias[2], *modulation[2]; /* modulation[1] NULL: the last */
            int64_t modulation_row[2]; /* its first row in the stack; -1: not stacked */
            struct tensor *skip;       /* NULL: identity */
        } conv;
        struct {
            struct tensor *gamma, *beta, *qkv, *qkv_bias, *out, *out_bias;
            int heads;
        } attention;
        struct module_list inner;
    };
};

struct mapping_block {
    struct tensor *weight[2], *bias[2], *skip;
};

#define MAPPING_MAX 8

struct unet {
    struct loader loader;
    struct unet_sizes sizes;
    struct tensor *mapping_timestep, *timestep; /* Fourier weights [m, 1] */
    struct mapping_block mapping[MAPPING_MAX];
    int mapping_count;
    int64_t cond_width;
    struct tensor *modulations; /* all of them, stacked; NULL: each by itself */
    struct module_list net;
    bool recompute;
};

#endif
