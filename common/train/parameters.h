#ifndef CCLD_TRAIN_PARAMETERS_H
#define CCLD_TRAIN_PARAMETERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nets/architecture.h"
#include "common/nets/loader.h"
#include "common/train/collective.h"
#include "common/train/slices.h"
#include "kernels/device.h"

/* The parameters of a network in training: weights, their exponential moving average (EMA),
 * gradients and Adam's two moments, for any network. They are flat F32 arrays on the device, one
 * allocation each, with a table of each tensor's position. Trained tensors come first, the matrices
 * of CLOOB's towers before the others; a U-Net's modulations are contiguous. Fixed tensors (Fourier
 * weights), which the optimizer never sees, follow. Tensors start at multiples of 16 elements; the
 * gaps are zero and stay zero.
 *
 * With several ranks, weights are whole on each, and the other arrays are sharded: a rank has only
 * its slices (common/train/slices.h) of the trained elements, one after another. */
#define PARAMETERS_SCALARS_MAX 4

enum parameter_array {
    ARRAY_WEIGHTS,   /* all elements */
    ARRAY_EMA,       /* all elements; if sharded, trained ones */
    ARRAY_GRADIENTS, /* of an update; this and the following: trained elements only */
    ARRAY_M,         /* Adam's first moment */
    ARRAY_V,         /* and its second */
    ARRAY_COUNT
};

struct parameter {
    char *name; /* ours (common/nets/names.h) */
    bool trained;
    int ndim;
    int64_t shape[ARCHITECTURE_MAX_DIMS];
    int64_t offset, count; /* in elements; offset: from the start of each array */
    const char *compact;   /* its gradient, of this type: parameters_compact; or NULL */
    enum dtype compact_type;
};

struct parameters {
    struct device *device;
    enum net net;
    struct parameter *tensors; /* [0, trained_count) are trained; each part in the order of names,
                                  a U-Net's modulations and CLOOB's matrices before others */
    int count, trained_count;
    int64_t elements, trained_elements; /* lengths of the arrays, gaps included */
    bool kernels_first;                 /* parameters_kernels_first */
    int64_t kernel_elements;            /* then, those of kernels at the start; else 0 */
    int64_t decayed_elements; /* those at the start that weight decay applies to: CLOOB's matrices,
                                 or all trained elements of other networks */
    int64_t parameter_count;  /* trained elements without gaps */
    struct collective *collective; /* of the ranks among which arrays are sharded */
    struct slices slices;
    struct tensor *arrays[ARRAY_COUNT]; /* F32, one dimension; all but the first are NULL until
                                           parameters_place or their first use */
    struct tensor *whole_ema;           /* see parameters_gather_ema */
    struct tensor *micro_gradients;     /* of one micro-batch, all trained elements; NULL: see
                                           parameters_split_gradients */
    int64_t updates;                    /* applied so far, for AdamW's bias correction */
    bool ema_is_behind;                 /* see parameters_settle_ema */
    double ema_decay_before;
    struct parameter_scalar {
        char *name;
        float value;
    } scalars[PARAMETERS_SCALARS_MAX]; /* numbers stored beside the weights, on the host */
    int scalar_count;
    struct parameters *companion; /* owned; another network trained and saved with this one: an
                                     autoencoder's discriminator; or NULL */
};

/* All arrays are zero, for the caller to write, but EMA, which starts as a copy of the weights when
 * it is first used. */
struct parameters *parameters_empty(const struct architecture *architecture, enum net net,
                                    struct device *d);

/* New parameters of an architecture, initialized as in the reference. Weights and biases are
 * uniform in +-1/sqrt(fan_in) (torch's defaults), norms 1 and 0; then every trained tensor of a
 * U-Net is multiplied by sqrt(1/2). Fixed tensors are standard normal. CLOOB's weights are normal,
 * truncated at twice their standard deviation, which is 1/sqrt(fan_in) after truncation in
 * attention and before it in other layers, and 1/sqrt(width) before it in embeddings and positions;
 * its biases are 0 (haiku's defaults and crowsonkb/cloob-training, cloob_training/model.py). A
 * discriminator's kernels are normal with standard deviation 0.02, its norms' weights the same
 * around 1, its biases as in other networks (weights_init of taming-transformers). The result is a
 * pure function of the seed and each tensor's name. EMA starts as a copy of the weights; gradients
 * and moments as zeros. */
struct parameters *parameters_new(const struct architecture *architecture, enum net net,
                                  uint64_t seed, struct device *d);

/* Parameters of any network, with the tensors of a weight file, converted to F32, as weights and
 * EMA. Tensors for which fixed(name) holds are not trained: the optimizer does not see them and
 * checkpoints contain no moments of them. fixed: may be NULL. Fails if a tensor is not finite; the
 * reason names it. */
int parameters_from_names(struct parameters **out, const struct named_weights *names,
                          bool (*fixed)(const char *name), struct device *d, struct error *e);
/* The same from a weight file of any kind that names_resolve accepts, using its EMA weights if it
 * has any. Reasons name the file. */
int parameters_from_file(struct parameters **p, const char *path, enum net net,
                         bool (*fixed)(const char *name), struct device *d, struct error *e);
/* Parameters with the same tensors in the same places on another device, companion included, for
 * one rank; all arrays are zero. */
struct parameters *parameters_like(const struct parameters *p, struct device *d);
void parameters_free(struct parameters *p); /* NULL is fine */
/* Lists the tensors, for parameters_empty; free with architecture_release. */
struct architecture parameters_architecture(const struct parameters *p);

/* parameters_place will put a U-Net's kernels at the start, in their own order: those of
 * convolutions larger than 1x1 in hidden layers, which have at least 64 channels on both sides. */
void parameters_kernels_first(struct parameters *p);

/* Shards the arrays among the ranks of c, which must outlive p, and moves trained tensors into the
 * order in which their gradients become complete. completion: [trained_count], of each tensor, a
 * number that grows in that order, the same on all ranks; NULL: they stay in place. Call it before
 * anything but weights is used; not calling it means one rank. */
void parameters_place(struct parameters *p, struct collective *c, const int *completion);
static inline bool parameters_are_sharded(const struct parameters *p)
{
    return p->slices.shards > 1;
}

/* Every other update leaves EMA as it is (ema_is_behind), and the next one takes in the weights of
 * both (common/train/updater.h). This takes in the weights for which EMA waits, with the same bits.
 * Whoever reads or writes EMA through the functions below need not call it. */
void parameters_settle_ema(struct parameters *p);

/* All ranks call it: ARRAY_EMA can be read as a whole, in place (parameters_names), until
 * parameters_drop_ema. Both do nothing if EMA is not sharded. */
void parameters_gather_ema(struct parameters *p);
void parameters_drop_ema(struct parameters *p);

/* The tensors of ARRAY_WEIGHTS or ARRAY_EMA, for unet_load and the like. A network loaded from them
 * reads the arrays in place and so sees an update without loading again. Call names_release(out)
 * when the network is freed; p must outlive it. */
void parameters_names(struct named_weights *out, const struct parameters *p,
                      enum parameter_array which);

/* Makes tape_backward add to the gradients in p (micro_gradients if p has them) whenever it reaches
 * a parameter of the network that `l` loaded from parameters_names(p, ARRAY_WEIGHTS). */
void parameters_bind(const struct parameters *p, struct loader *l);
/* From now on, the gradient of a kernel or matrix that parameters_bind has bound is compact
 * (kernels/training.h), in the form of weight->working: what a convolution's backward pass writes
 * needs no further pass over memory. Each backward pass must overwrite it, and use the weight once;
 * gradients must not be split. Returns where it lies. */
const void *parameters_compact(const struct parameters *p, struct tensor *weight);

/* From now on, what parameters_bind made goes to the sum of gradients itself, or to
 * micro_gradients.
 */
void parameters_aim(const struct parameters *p, struct loader *l, bool at_sum);
/* Gives each micro-batch a gradient of its own, from which ARRAY_GRADIENTS is summed
 * (common/train/updater.h). Call it before parameters_bind; calling it again changes nothing. */
void parameters_split_gradients(struct parameters *p);

/* Room for doubles on p's device, as the memory of a tensor without a meaningful type. */
struct tensor *parameters_doubles(const struct parameters *p, int64_t count);

/* NULL if there is no tensor with this name. */
const struct parameter *parameters_find(const struct parameters *p, const char *name);

/* Elements first .. first+count of a whole array, for the host to read: the array itself if the
 * device has host memory and the array is not sharded, else a copy in scratch (room for count
 * floats; otherwise it may be NULL). If the array is sharded, only the first rank may call it,
 * while all others are in parameters_serve. */
const float *parameters_read(const struct parameters *p, enum parameter_array which, int64_t first,
                             int64_t count, float *scratch);
/* Answers the first rank's parameters_read, of p or its companion, until parameters_serve_end. */
void parameters_serve(const struct parameters *p);
/* On the first rank; does nothing if there is only one. */
void parameters_serve_end(const struct parameters *p);
/* Of a sharded array, a rank writes what it has of these elements. Not for compact gradients. */
void parameters_write(struct parameters *p, enum parameter_array which, int64_t first,
                      int64_t count, const float *host);
/* EMA = weights. */
void parameters_restart_ema(struct parameters *p);

/* Sets or replaces a number stored beside the weights, such as a U-Net's "autoencoder_scale". */
void parameters_set_scalar(struct parameters *p, const char *name, float value);

#endif
