#ifndef CCLD_KERNELS_TAPE_H
#define CCLD_KERNELS_TAPE_H

#include "kernels/device.h"

/* Learns when gradients are complete: the last use of a parameter that was recorded is the last one
 * that the backward pass comes to. */
struct tape_watcher {
    /* The backward pass is done with a parameter's gradient g, unless another one follows. */
    void (*completed)(void *context, const struct gradient *g);
    void *context;
};

/* Runs ops on a device and records them for the backward pass. Networks receive a tape and pass it
 * on; they never ask which device is behind it. An op runs when called. While the tape records, an
 * op that a requested gradient flows through leaves a record, which holds the tensors that its
 * backward pass reads. All other tensors return to the pool with their last reference. */
struct tape {
    struct device *device;
    bool recording;
    bool training; /* without recording, ops round as they do with it */
    bool fresh;    /* the first gradient of each parameter overwrites, later ones add */
    int64_t pass;  /* number of the backward pass for which `fresh` was set */
    const struct tape_watcher *watcher; /* told by the next backward pass; or NULL */
    struct record *records;
    int count, capacity;
};

void tape_init(struct tape *t, struct device *d);
void tape_release(struct tape *t); /* drops all records */

/* The next tape_backward overwrites parameters' gradients, which saves setting them to zero.
 * Gradients of parameters that it does not reach keep their values. */
void tape_fresh_gradients(struct tape *t);
/* Propagates dy, the gradient of a scalar with respect to y (same shape), back through the records,
 * newest first, and drops them. Gradients of inputs are left in tensor->gradient->value; those of
 * parameters are added to their memory. */
void tape_backward(struct tape *t, struct tensor *y, struct tensor *dy);

/* Gradient checkpointing: y = f(tape, context, x, extra), but f's activations are dropped and
 * recomputed by running f again in the backward pass. Needs the memory of one call instead of all,
 * and the time of one more forward pass. extra may be NULL. */
typedef struct tensor *tape_function(struct tape *t, const void *context, struct tensor *x,
                                     struct tensor *extra);
struct tensor *tape_recompute(struct tape *t, tape_function *f, const void *context,
                              struct tensor *x, struct tensor *extra);

#endif
