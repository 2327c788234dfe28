#ifndef CCLD_KERNELS_REPLAY_H
#define CCLD_KERNELS_REPLAY_H

#include "kernels/tape.h"

/* Work that is repeated on the same tensors. If the device supports it, the second run is recorded
 * and from then on replayed as a whole (a CUDA graph); otherwise, and with CCLD_REPLAY=0 in the
 * environment (of all ranks), the function is called each time. */
struct replay;

/* Must do the same work in every call: read and write only tensors (and their gradients) that live
 * as long as the replay, release all others, and neither upload nor download. Anything that changes
 * between runs must be in those tensors. Must leave no records on the tape. */
typedef void replay_function(struct tape *t, void *context);

struct replay *replay_new(struct tape *t, replay_function *f, void *context);
/* With several ranks, all must replay or none, or their communication would not match: after
 * recording, agree(context, whether it succeeded here) returns whether it did so on all. */
typedef bool replay_agreement(void *context, bool recorded);
void replay_agree(struct replay *r, replay_agreement *agree, void *context);
void replay_run(struct replay *r);
void replay_free(struct replay *r); /* r may be NULL */

#endif
