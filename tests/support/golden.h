#ifndef CCLD_TESTS_GOLDEN_H
#define CCLD_TESTS_GOLDEN_H

#include "common/nets/architecture.h"
#include "kernels/tensor.h"

/* A golden file for one network: its tensors, and the synthetic weights that its metadata
 * describes. The functions end the program if the file lacks something it must have. */
struct golden {
    char *name; /* "unet_tiny.safetensors" */
    struct weights *file;
    enum net net;
    struct architecture architecture;
    struct named_weights names;
    void *memory;
    int64_t elements; /* in all weights */
};

/* false, with a TAP line, if the file does not exist (skip) or cannot be read (failure). name has
 * no extension; its beginning tells the network, "train" being a U-Net. */
bool golden_open(struct golden *g, const char *folder, const char *name);
void golden_close(struct golden *g);

const char *golden_text(const struct golden *g, const char *key); /* from its metadata */
int64_t golden_int(const struct golden *g, const char *key);
double golden_double(const struct golden *g, const char *key);
/* A number from the JSON text `config` in the metadata. */
double golden_config(const struct golden *g, const char *key);

const struct weight *golden_find(const struct golden *g, const char *name);
float *golden_read(const struct golden *g, const char *name); /* malloc'ed */
struct tensor *golden_input(const struct golden *g, struct device *d, const char *name);

/* One TAP line: relative L2 error of ours against tensor `name`. Releases ours. */
void golden_check(const struct golden *g, struct tensor *ours, const char *name, double tolerance);

#endif
