#include "kernels/replay.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/pool.h"

struct replay {
    struct tape *tape;
    replay_function *function;
    void *context;
    int64_t runs;
    void *recording; /* the backend's, or NULL */
    bool plain;      /* not recordable: runs plainly */
    replay_agreement *agree;
    void *agree_context;
};

/* Profilers that show one kernel at a time, such as NVIDIA's ncu, see recorded work as a whole. */
static bool replay_wanted(void)
{
    const char *text = getenv("CCLD_REPLAY");
    return !text || strcmp(text, "0") != 0;
}

struct replay *replay_new(struct tape *t, replay_function *f, void *context)
{
    struct replay *r = xcalloc(1, sizeof *r);
    *r = (struct replay){.tape = t, .function = f, .context = context};
    r->plain = !t->device->backend->record_begin || !replay_wanted();
    return r;
}

void replay_agree(struct replay *r, replay_agreement *agree, void *context)
{
    r->agree = agree;
    r->agree_context = context;
}

/* The memory of recordings is given back with the last one. */
static void give_back(struct device *d)
{
    if (d->recordings > 0 || !d->recorded_pool)
        return;
    pool_free(d->recorded_pool);
    d->recorded_pool = NULL;
}

static void forget(struct replay *r)
{
    struct device *d = r->tape->device;
    if (!r->recording)
        return;
    d->backend->forget(d, r->recording);
    r->recording = NULL;
    d->recordings--;
    give_back(d);
}

/* Recorded work uses its temporaries' addresses even after they are released, so they come from a
 * pool that nothing else uses. Recordings run one after another and leave nothing allocated in it,
 * so that all recordings of a device share one. */
static void record(struct replay *r)
{
    struct device *d = r->tape->device;
    struct pool *usual = d->pool;
    device_trim(d); /* the recording's pool needs this memory */
    if (!d->recorded_pool) {
        d->recorded_pool = pool_new(d);
        pool_keep(d->recorded_pool);
    }
    d->pool = d->recorded_pool;
    d->backend->record_begin(d);
    r->function(r->tape, r->context);
    r->recording = d->backend->record_end(d);
    CHECK(pool_memory(d->pool).in_use == 0);
    d->pool = usual;
    d->recordings += r->recording != NULL;
    if (r->agree && !r->agree(r->agree_context, r->recording != NULL))
        forget(r);
    r->plain = !r->recording;
    give_back(d);
}

void replay_run(struct replay *r)
{
    struct device *d = r->tape->device;
    if (d->recorded_pool && d->pool == d->recorded_pool) { /* nested: part of the outer recording */
        r->function(r->tape, r->context);
        return;
    }
    if (!r->plain && r->runs == 1)
        record(r);
    r->runs++;
    if (r->recording)
        d->backend->replay(d, r->recording);
    else
        r->function(r->tape, r->context);
}

void replay_free(struct replay *r)
{
    if (!r)
        return;
    forget(r);
    free(r);
}
