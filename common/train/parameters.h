#ifndef CCLD_TRAIN_PARAMETERS_H
#define CCLD_TRAIN_PARAMETERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/architecture.h"
#include "common/nets/loader.h"
#include "kernels/device.h"

/* The weights of one network in training, whichever network: flat F32 arrays on the device, one
 * allocation each, and a table that says which tensor lies where. Trained tensors come first,
 * those of a U-Net's modulations and the matrices of CLOOB's towers before the others so that they
 * lie side by side, else in the order of their names, then the fixed ones (Fourier weights) that
 * the optimizer never sees. Tensors start at multiples of 16 elements; the gaps hold zeros and stay
 * zero. */
#define PARAMETERS_SCALARS_MAX 4

enum parameter_array {
    ARRAY_WEIGHTS,   /* all elements */
    ARRAY_EMA,       /* all elements */
    ARRAY_GRADIENTS, /* this and the rest: trained elements only */
    ARRAY_M,
    ARRAY_V,
    ARRAY_COUNT
};

struct parameter {
    char *name; /* ours (common/nets/names.h) */
    bool trained;
    int ndim;
    int64_t shape[ARCHITECTURE_MAX_DIMS];
    int64_t offset, count; /* elements, from the start of each array */
};

struct parameters {
    struct device *device;
    enum net net;
    struct parameter *tensors; /* [0, trained_count) are trained */
    int count, trained_count;
    int64_t elements, trained_elements; /* lengths of the arrays, gaps included */
    int64_t decayed_elements; /* the first of them, which weight decay is for: CLOOB's matrices, all
                                 of other networks */
    int64_t parameter_count;  /* numbers that are trained, gaps left out */
    struct tensor *arrays[ARRAY_COUNT]; /* F32, one dimension */
    int64_t updates;                    /* applied so far: what AdamW's bias correction counts */
    struct parameter_scalar {
        char *name;
        float value;
    } scalars[PARAMETERS_SCALARS_MAX]; /* numbers stored beside the weights, on the host */
    int scalar_count;
    struct parameters *companion; /* another network that is trained and saved with this one, its
                               own: an autoencoder's discriminator; or NULL */
};

/* Every array zero, to be written. */
struct parameters *parameters_empty(const struct architecture *architecture, enum net net,
                                    struct device *d);

/* From an architecture, initialised as the reference does it: weights and biases uniform in
 * +-1/sqrt(fan_in) (torch's defaults), norms 1 and 0, then every trained tensor of a U-Net times
 * sqrt(1/2); fixed tensors are standard normal. CLOOB's weights are normals without what lies
 * beyond twice their deviation, which is 1/sqrt(fan_in) after the cut in attention, before it in
 * other layers, and 1/sqrt(width) before it in embeddings and positions; biases 0 (haiku's defaults
 * and crowsonkb/cloob-training, cloob_training/model.py). A discriminator's kernels are normals of
 * deviation 0.02, its norms 1 plus such, biases as in the others (taming-transformers'
 * weights_init). A pure function of seed and each tensor's name. EMA starts as a copy of the
 * parameters; gradients, m and v as zeros. */
struct parameters *parameters_new(const struct architecture *architecture, enum net net,
                                  uint64_t seed, struct device *d);

/* Of any network, from a weight file's tensors, converted to F32; otherwise as above. Fails when a
 * tensor is not finite, naming it. */
int parameters_from_names(struct parameters **p, const struct named_weights *names,
                          struct device *d, struct error *e);
/* The same, but tensors for which fixed(name) holds are not trained: the optimizer does not see
 * them, checkpoints have no moments of them. fixed NULL: parameters_from_names. */
int parameters_from_names_fixing(struct parameters **p, const struct named_weights *names,
                                 bool (*fixed)(const char *name), struct device *d,
                                 struct error *e);
/* From a weight file of any kind that names_resolve accepts: EMA weights if there are any. fixed:
 * as above. Reasons name the file. */
int parameters_from_file(struct parameters **p, const char *path, enum net net,
                         bool (*fixed)(const char *name), struct device *d, struct error *e);
/* Of the same tensors on another device, companion included, every array zero. */
struct parameters *parameters_like(const struct parameters *p, struct device *d);
void parameters_free(struct parameters *p); /* NULL is fine */
/* Its tensors, as parameters_empty takes them; architecture_release when done. */
struct architecture parameters_architecture(const struct parameters *p);

/* The tensors of ARRAY_WEIGHTS or ARRAY_EMA for unet_load and its like, which then show this very
 * memory: an update is seen without loading again. names_release(out) when the network is freed;
 * the parameters must outlive it. */
void parameters_names(struct named_weights *out, const struct parameters *p,
                      enum parameter_array which);

/* Makes tape_backward add to this parameters's gradients whenever it reaches a parameter of the
 * network that `l` loaded from parameters_names(p, ARRAY_WEIGHTS). */
void parameters_bind(const struct parameters *p, struct loader *l);

/* NULL when there is none of this name. */
const struct parameter *parameters_find(const struct parameters *p, const char *name);

/* Elements first .. first+count of an array for the host to read: the array itself where the device
 * has host memory, else copied to scratch (room for count floats, may be NULL on such devices). */
const float *parameters_read(const struct parameters *p, enum parameter_array which, int64_t first,
                             int64_t count, float *scratch);
void parameters_write(struct parameters *p, enum parameter_array which, int64_t first,
                      int64_t count, const float *host);
void parameters_fill(struct parameters *p, enum parameter_array which, float value);
void parameters_copy(struct parameters *p, enum parameter_array to,
                     enum parameter_array from); /* of equal lengths */
/* A view of one tensor's part of an array, to be released. */
struct tensor *parameters_view(const struct parameters *p, enum parameter_array which,
                               const struct parameter *t);

/* Sets or replaces a number stored beside the weights, as "autoencoder_scale" of a U-Net. */
void parameters_set_scalar(struct parameters *p, const char *name, float value);

#endif
