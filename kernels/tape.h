#ifndef CCLD_KERNELS_TAPE_H
#define CCLD_KERNELS_TAPE_H

#include "kernels/device.h"

/* Where ops run and what is remembered of them. Networks get one and pass it on; they never ask
 * which device is behind it. An op call runs now; all calls go through one place (tape.c), which is
 * where a recording tape keeps the args and holds references to the tensors that the op's backward
 * direction reads. Without recording nothing is kept, and a tensor's memory goes back to the pool
 * with its last reference. */
struct tape {
    struct device *device;
};

void tape_init(struct tape *t, struct device *d);
void tape_release(struct tape *t);

#endif
