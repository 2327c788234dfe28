#ifndef CCLD_FIT_CLOOB_H
#define CCLD_FIT_CLOOB_H

#include <signal.h>

#include "common/data/image_set.h"
#include "common/fit/loop.h"
#include "common/train/cloob_step.h"

/* Training of CLOOB on pairs of picture and caption: common/fit/loop.h with
 * common/train/cloob_step.h and common/data/image_set.h. */

struct fit_cloob {
    struct fit_loop_options options;
    struct cloob_step_options step; /* batch and accumulate as the loop has them */
    uint64_t seed;                  /* of the data's order */
    bool flip;                      /* mirror every other picture */
    struct parameters *parameters;
    /* With captions, in [0, 1]; where its pictures are not of the size that the network takes, they
     * are resized as ccld-encode does it. */
    struct image_set *images;
    struct collective *collective;
    struct run *run;
    struct training_state *state; /* where the run stands; kept up to date */
    const volatile sig_atomic_t *stop;
};

/* Held-out pairs are judged so many at a time: each picture has to find its text among as many, and
 * each text its picture. No two of them have the same caption; pairs that do not fill another such
 * group are left out where there is one. */
#define FIT_CLOOB_JUDGED 256

/* Sizes of the network in a parameters; fails where it is no CLOOB with both towers, and with a
 * vocabulary that there are merges for. */
int fit_cloob_sizes(struct cloob_sizes *sizes, const struct parameters *p, struct error *e);

/* Bytes that the run needs on its device at the peak of a step. With -v says what they are for. */
int64_t fit_cloob_memory(const struct fit_cloob *f);
/* Fails when the device has less than `needed` (fit_cloob_memory's) for the run; the reason says
 * what would make it fit. */
int fit_cloob_check_memory(const struct fit_cloob *f, int64_t needed, struct error *e);

/* As fit_loop_announce and fit_loop_run. */
void fit_cloob_announce(const struct fit_cloob *f, int64_t memory_bytes);
int fit_cloob_run(const struct fit_cloob *f, enum fit_end *end, struct error *e);

#endif
