#ifndef CCLD_DIFFUSION_SAMPLE_MEMORY_H
#define CCLD_DIFFUSION_SAMPLE_MEMORY_H

#include "common/diffusion/sample.h"
#include "common/nets/model.h"

struct sample_memory {
    int64_t process; /* bytes that the process needs */
    int64_t tensors; /* of them on the device, for device_plan */
};

/* What the process needs at the peak of embedding the conditionings and of sampling on a
 * device like this one, in host memory: for tensors, which a dry run finds out, and for images.
 * m: its files are open, no network is loaded; the options have passed sample_check. Fails if a
 * network cannot be loaded. */
int sample_memory_plan(struct sample_memory *out, struct model *m, const struct sample_options *o,
                       const struct conditionings *c, const struct device *like, struct error *e);

#endif
