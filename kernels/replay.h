#ifndef CCLD_KERNELS_REPLAY_H
#define CCLD_KERNELS_REPLAY_H

#include "kernels/tape.h"

/* A piece of work that is done again and again on the same tensors. Where the device can, what it
 * launches is recorded the second time and from then on replayed as one (a CUDA graph); elsewhere
 * it simply runs. */
struct replay;

/* Must do the same whenever it is called: read and write tensors that live as long as the replay
 * (and their gradients), release all others, and neither upload nor download. What changes between
 * runs is in those tensors. It leaves no records on the tape. */
typedef void replay_function(struct tape *t, void *context);

struct replay *replay_new(struct tape *t, replay_function *f, void *context);
void replay_run(struct replay *r);
void replay_free(struct replay *r); /* NULL is fine */

#endif
