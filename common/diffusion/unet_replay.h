#ifndef CCLD_DIFFUSION_UNET_REPLAY_H
#define CCLD_DIFFUSION_UNET_REPLAY_H

#include "common/nets/unet.h"

/* Forward passes of a U-Net on tensors that keep their addresses, so that a device can replay them
 * (kernels/replay.h). There is one per number of rows (images times conditions). Start with a
 * struct whose other fields are zero. */
#define UNET_REPLAY_MAX 4
struct unet_replays {
    const struct unet *unet;
    struct unet_replay *kept[UNET_REPLAY_MAX]; /* the most recent ones; NULL after the last */
};

/* Predicts v at `time` for x [n, c, h, w] under each of the conditions in embeds [k * n, embedding
 * width]. Returns v [k * n, c, h, w], which r owns and which is valid until the next call. */
struct tensor *unet_replays_run(struct unet_replays *r, struct tape *t, struct tensor *x,
                                float time, struct tensor *embeds);
/* Frees the tensors; r can be used again. */
void unet_replays_release(struct unet_replays *r);

#endif
