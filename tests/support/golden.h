#ifndef CCLD_TESTS_GOLDEN_H
#define CCLD_TESTS_GOLDEN_H

#include "common/nets/architecture.h"
#include "kernels/tensor.h"

/* A golden file of one network: its tensors, and the synthetic weights that its metadata describe.
 * What a file must have and has not ends the program. */
struct golden {
    char *name; /* "unet_tiny.safetensors" */
    struct weights *file;
    enum net net;
    struct architecture architecture;
    struct named_weights names;
    float *memory;
    int64_t elements; /* of all weights */
};

/* false, with a TAP line: there is no such file (skipped), or it cannot be read (failed). name:
 * without its ending; how it starts tells the network, "train" being a U-Net. */
bool golden_open(struct golden *g, const char *folder, const char *name);
void golden_close(struct golden *g);

const char *golden_text(const struct golden *g, const char *key); /* of its metadata */
int64_t golden_int(const struct golden *g, const char *key);
double golden_double(const struct golden *g, const char *key);
/* A number of the JSON text `config` in the metadata. */
double golden_config(const struct golden *g, const char *key);

const struct weight *golden_find(const struct golden *g, const char *name);
float *golden_read(const struct golden *g, const char *name); /* malloc'ed */
struct tensor *golden_input(const struct golden *g, struct device *d, const char *name);

/* One TAP line: tensor `name` against ours, by relative L2 error. Releases ours. */
void golden_check(const struct golden *g, struct tensor *ours, const char *name, double tolerance);

#endif
