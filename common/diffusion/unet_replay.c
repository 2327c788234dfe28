#include "common/diffusion/unet_replay.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/replay.h"

struct unet_replay {
    const struct unet *unet;
    struct tensor *x, *time, *embeds, *v;
    struct replay *replay;
};

/* Copies x, F32, to the rows of y from `begin` on. */
static void copy_to(struct tensor *y, int64_t begin, const struct tensor *x)
{
    struct tensor *rows = tensor_slice(y, begin, x->shape[0]);
    tensor_copy(rows, x);
    tensor_release(rows);
}

/* A replay_function. */
static void evaluate(struct tape *t, void *context)
{
    struct unet_replay *r = context;
    struct tensor *v = unet_forward(t, r->unet, r->x, r->time, r->embeds);
    copy_to(r->v, 0, v);
    tensor_release(v);
}

static void replay_release(struct unet_replay *r)
{
    replay_free(r->replay);
    tensor_release(r->x);
    tensor_release(r->time);
    tensor_release(r->embeds);
    tensor_release(r->v);
    free(r);
}

static struct unet_replay *replay_of(const struct unet *unet, struct tape *t,
                                     const struct tensor *x, const struct tensor *embeds)
{
    struct unet_replay *r = xcalloc(1, sizeof *r);
    struct device *d = t->device;
    int64_t rows = embeds->shape[0], c = x->shape[1], h = x->shape[2], w = x->shape[3];
    r->unet = unet;
    r->x = tensor_new(d, DTYPE_F32, DIMS(rows, c, h, w));
    r->v = tensor_new(d, DTYPE_F32, DIMS(rows, c, h, w));
    r->time = tensor_new(d, DTYPE_F32, DIMS(rows));
    r->embeds = tensor_new(d, DTYPE_F32, DIMS(rows, embeds->shape[1]));
    r->replay = replay_new(t, evaluate, r);
    return r;
}

/* Finds or makes the one for this number of rows. Few numbers occur, so the oldest one goes. */
static struct unet_replay *find(struct unet_replays *r, struct tape *t, const struct tensor *x,
                                const struct tensor *embeds)
{
    int i = 0;
    while (i < UNET_REPLAY_MAX && r->kept[i] && r->kept[i]->x->shape[0] != embeds->shape[0])
        i++;
    if (i == UNET_REPLAY_MAX) {
        replay_release(r->kept[0]);
        memmove(r->kept, r->kept + 1, (UNET_REPLAY_MAX - 1) * sizeof *r->kept);
        r->kept[--i] = NULL;
    }
    if (!r->kept[i])
        r->kept[i] = replay_of(r->unet, t, x, embeds);
    return r->kept[i];
}

struct tensor *unet_replays_run(struct unet_replays *r, struct tape *t, struct tensor *x,
                                float time, struct tensor *embeds)
{
    int64_t rows = embeds->shape[0], n = x->shape[0];
    CHECK(rows % n == 0);
    struct unet_replay *one = find(r, t, x, embeds);
    float *times = xmalloc((size_t)rows * sizeof *times);
    for (int64_t i = 0; i < rows; i++)
        times[i] = time;
    tensor_upload(one->time, times);
    free(times);
    for (int64_t i = 0; i < rows; i += n)
        copy_to(one->x, i, x);
    copy_to(one->embeds, 0, embeds);
    replay_run(one->replay);
    return one->v;
}

void unet_replays_release(struct unet_replays *r)
{
    for (int i = 0; i < UNET_REPLAY_MAX && r->kept[i]; i++) {
        replay_release(r->kept[i]);
        r->kept[i] = NULL;
    }
}
