#include "kernels/tape.h"

void tape_init(struct tape *t, struct device *d)
{
    t->device = d;
}

void tape_release(struct tape *t)
{
    t->device = NULL;
}
