#ifndef CCLD_KERNELS_TAPE_H
#define CCLD_KERNELS_TAPE_H

#include "kernels/device.h"

/* Where ops run and what is remembered of them. Networks get a tape and pass it on; they never ask
 * which device is behind it. An op call runs now. While the tape records, ops through which a
 * wanted gradient flows leave a record: what their backward direction reads is held, everything
 * else goes back to the pool with its last reference, recording or not. */
struct tape {
    struct device *device;
    bool recording;
    bool fresh;   /* gradients by parameters begin anew: the first to reach one writes, not adds */
    int64_t pass; /* number of the backward pass that they begin anew with */
    struct record *records;
    int count, capacity;
};

void tape_init(struct tape *t, struct device *d);
void tape_release(struct tape *t); /* drops all records */

/* The next tape_backward forgets what parameters' gradients hold, which saves setting them to zero;
 * those of parameters that it does not reach stay as they are. */
void tape_fresh_gradients(struct tape *t);
/* Sends dy, the gradient of a scalar by y (same shape), back through the records, newest first, and
 * drops them. Gradients by inputs are left in tensor->gradient->value, parameters' are added to. */
void tape_backward(struct tape *t, struct tensor *y, struct tensor *dy);

/* y = f(tape, context, x, extra), forgetting everything inside: the backward direction runs f
 * again. Memory of one call instead of all, for the time of one more forward. extra may be NULL. */
typedef struct tensor *tape_function(struct tape *t, const void *context, struct tensor *x,
                                     struct tensor *extra);
struct tensor *tape_recompute(struct tape *t, tape_function *f, const void *context,
                              struct tensor *x, struct tensor *extra);

#endif
