#include "kernels/pool.h"
#include "kernels/replay.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "tests/support/emulated.h"
#include "tests/support/tap.h"

enum { ROWS = 5, COLUMNS = 1000, COUNT = ROWS * COLUMNS };

/* Stands for a step: reads x, draws and rate, writes y and loss, and has temporaries of many sizes.
 */
struct work {
    struct tensor *x, *draws, *rate, *y, *loss;
    uint64_t seed;
    int calls;
    struct replay *inner; /* run in between, or NULL */
};

static struct tensor *temporary(struct tape *t)
{
    return tensor_new(t->device, DTYPE_F32, DIMS(ROWS, COLUMNS));
}

/* noise = normals(draws); y = rate * (x - noise), loss = mean (x - noise)^2; y passes through
 * temporaries that other ops write before and after. */
static void step(struct tape *t, void *context)
{
    struct work *w = context;
    const struct backend *b = t->device->backend;
    struct tensor *noise = temporary(t), *half = temporary(t), *copy;
    w->calls++;
    b->fill(t->device, &(struct fill_args){COUNT, half->data, 77});
    b->normals(t->device, &(struct normals_args){w->seed, RNG_POSTERIOR, w->draws, noise});
    b->mse(t->device, &(struct mse_args){w->x, noise, w->rate, w->loss, half});
    if (w->inner)
        replay_run(w->inner);
    copy = temporary(t);
    const struct tensor *from = half;
    struct tensor *to = copy;
    b->convert_weights(t->device, &(struct convert_weights_args){1, &from, &to});
    b->fill(t->device, &(struct fill_args){COUNT, half->data, -1});
    b->fill(t->device, &(struct fill_args){COUNT, noise->data, 0});
    tensor_release(noise);
    from = copy, to = w->y;
    b->convert_weights(t->device, &(struct convert_weights_args){1, &from, &to});
    tensor_release(copy);
    tensor_release(half);
}

static struct work work_new(struct device *d, uint64_t seed)
{
    return (struct work){
        .x = tensor_new(d, DTYPE_F32, DIMS(ROWS, COLUMNS)),
        .draws = tensor_new(d, DTYPE_I64, DIMS(ROWS, 2)),
        .rate = tensor_new(d, DTYPE_F32, DIMS(1)),
        .y = tensor_new(d, DTYPE_F32, DIMS(ROWS, COLUMNS)),
        .loss = tensor_new(d, DTYPE_F32, DIMS(ROWS)),
        .seed = seed,
    };
}

static void work_free(struct work *w)
{
    tensor_release(w->x);
    tensor_release(w->draws);
    tensor_release(w->rate);
    tensor_release(w->y);
    tensor_release(w->loss);
}

static void give_inputs(struct work *w, int run)
{
    float x[COUNT], rate = 1.0f / (float)(run + 1);
    int64_t draws[2 * ROWS];
    rng_normal(x, COUNT, w->seed, RNG_TRAINING_NOISE, (uint32_t)run, 0, 0);
    for (int i = 0; i < ROWS; i++) {
        draws[2 * i] = 1000 * run + i;
        draws[2 * i + 1] = run;
    }
    tensor_upload(w->x, x);
    tensor_upload(w->draws, draws);
    tensor_upload(w->rate, &rate);
}

/* Whether the outputs are those of a plain run, computed here. */
static bool outputs_right(struct work *w, int run)
{
    static float x[COUNT], noise[COUNT], y[COUNT];
    float loss[ROWS];
    bool right = true;
    rng_normal(x, COUNT, w->seed, RNG_TRAINING_NOISE, (uint32_t)run, 0, 0);
    tensor_to_f32(w->y, y);
    tensor_to_f32(w->loss, loss);
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        rng_normal(noise, COLUMNS, w->seed, RNG_POSTERIOR, (uint32_t)run,
                   (uint64_t)(1000 * run + i), 0);
        for (int j = 0; j < COLUMNS; j++) {
            float difference = x[i * COLUMNS + j] - noise[j];
            right &= y[i * COLUMNS + j] == difference * (2 * (1.0f / (float)(run + 1)));
            sum += (double)difference * difference;
        }
        double error = loss[i] / (sum / COLUMNS) - 1;
        right &= error <= 1e-6 && error >= -1e-6;
    }
    return right;
}

static void repeated(struct tape *t)
{
    struct device *d = t->device;
    struct work w = work_new(d, 11);
    struct replay *r = replay_new(t, step, &w);
    bool right = true, same_memory = true;
    size_t in_use = device_memory(d).in_use, recorded_in_use = 0, left = 0;
    for (int run = 0; run < 8; run++) {
        give_inputs(&w, run);
        replay_run(r);
        if (run >= 2) {
            same_memory &= device_memory(d).in_use == recorded_in_use;
            same_memory &= d->host_memory || device_memory_left(d) == left;
        }
        right &= outputs_right(&w, run);
        recorded_in_use = device_memory(d).in_use;
        left = device_memory_left(d);
    }
    tap_ok(right, "eight runs with changing inputs");
    tap_ok(w.calls == 2, "the function was called %d times: run plainly, then recorded", w.calls);
    tap_ok(same_memory && recorded_in_use > in_use,
           "replays take no memory; what they recorded counts as used");
    for (int run = 20; run < 25; run++) { /* without waiting in between: copies are ordered */
        give_inputs(&w, run);
        replay_run(r);
    }
    tap_ok(outputs_right(&w, 24), "replays without waiting");
    replay_free(r);
    work_free(&w);
}

static void unrecorded(struct tape *t)
{
    struct work w = work_new(t->device, 13);
    setenv("CCLD_REPLAY", "0", 1);
    struct replay *r = replay_new(t, step, &w);
    unsetenv("CCLD_REPLAY");
    bool right = true;
    for (int run = 0; run < 4; run++) {
        give_inputs(&w, run);
        replay_run(r);
        right &= outputs_right(&w, run);
    }
    tap_ok(right && w.calls == 4, "with CCLD_REPLAY=0, the function is called in every run");
    replay_free(r);
    work_free(&w);
}

static bool others_cannot(void *context, bool recorded)
{
    return false;
}

/* A recording that is of no use. */
static void not_agreed(struct tape *t)
{
    struct work w = work_new(t->device, 11);
    struct replay *r = replay_new(t, step, &w);
    replay_agree(r, others_cannot, NULL);
    bool right = true;
    for (int run = 0; run < 4; run++) {
        give_inputs(&w, run);
        replay_run(r);
        right &= outputs_right(&w, run);
    }
    tap_ok(right && !t->device->recorded_pool,
           "without the agreement of others, nothing is replayed, and no memory kept for it");
    replay_free(r);
    work_free(&w);
}

/* Between replays, blocks of the usual pool, each with its own pattern, are allocated and released:
 * neither changes the other. */
static void beside_others(struct tape *t)
{
    enum { BLOCKS = 12 };
    struct device *d = t->device;
    struct work w = work_new(d, 12);
    struct replay *r = replay_new(t, step, &w);
    struct tensor *blocks[BLOCKS] = {NULL};
    float *pattern = xmalloc(100000 * sizeof *pattern);
    bool right = true, intact = true;
    for (int run = 0; run < 30; run++) {
        int i = run * 5 % BLOCKS;
        if (blocks[i]) {
            tensor_to_f32(blocks[i], pattern);
            for (int64_t j = 0; j < tensor_count(blocks[i]); j++)
                intact &= pattern[j] == (float)i;
            tensor_replace(&blocks[i], NULL);
        }
        blocks[i] = tensor_new(d, DTYPE_F32, DIMS(run % 3 ? COUNT : 100000 - run));
        struct fill_args fill = {tensor_count(blocks[i]), blocks[i]->data, (float)i};
        d->backend->fill(d, &fill);
        if (run % 4 == 3)
            device_trim(d);
        give_inputs(&w, run);
        replay_run(r);
        right &= outputs_right(&w, run);
    }
    for (int i = 0; i < BLOCKS; i++)
        tensor_release(blocks[i]);
    tap_ok(right, "replays among other allocations");
    tap_ok(intact, "which replays do not change");
    free(pattern);
    replay_free(r);
    work_free(&w);
}

/* Recordings share their temporaries, so they must run one after another, in any order. */
static void several(struct tape *t)
{
    enum { WORKS = 4 };
    struct work works[WORKS];
    struct replay *replays[WORKS];
    bool right = true;
    for (int i = 0; i < WORKS; i++) {
        works[i] = work_new(t->device, (uint64_t)(30 + i));
        replays[i] = replay_new(t, step, &works[i]);
    }
    for (int run = 0; run < 6; run++) {
        for (int i = 0; i < WORKS; i++) {
            give_inputs(&works[i], run);
            replay_run(replays[i]);
        }
        for (int i = 0; i < WORKS; i++) /* again, after all inputs are set */
            replay_run(replays[i]);
        for (int i = 0; i < WORKS; i++)
            right &= outputs_right(&works[i], run);
    }
    tap_ok(right, "%d recordings alternate", WORKS);
    replay_free(replays[1]);
    replay_free(replays[3]);
    right = true;
    for (int i = 0; i < WORKS; i += 2) {
        give_inputs(&works[i], 50 + i);
        replay_run(replays[i]);
    }
    for (int i = 0; i < WORKS; i += 2) {
        right &= outputs_right(&works[i], 50 + i);
        replay_free(replays[i]);
    }
    for (int i = 0; i < WORKS; i++)
        work_free(&works[i]);
    tap_ok(right, "two of them after the others are freed");
}

/* A recording includes the work of a nested replay. */
static void nested(struct tape *t)
{
    struct work inner = work_new(t->device, 41), outer = work_new(t->device, 42);
    inner.inner = NULL;
    outer.inner = replay_new(t, step, &inner);
    struct replay *r = replay_new(t, step, &outer);
    bool right = true;
    for (int run = 0; run < 6; run++) {
        give_inputs(&inner, run);
        give_inputs(&outer, run);
        replay_run(r);
        right &= outputs_right(&inner, run) && outputs_right(&outer, run);
        if (run % 2) {
            give_inputs(&inner, run + 70);
            replay_run(outer.inner);
            right &= outputs_right(&inner, run + 70);
        }
    }
    tap_ok(right, "a replay within a replay, and on its own");
    replay_free(r);
    const struct device *d = t->device;
    tap_ok(d->recorded_pool && device_memory(d).in_use > pool_memory(d->pool).in_use,
           "recorded memory stays allocated");
    replay_free(outer.inner);
    tap_ok(!d->recorded_pool, "until the last recording is freed");
    work_free(&inner);
    work_free(&outer);
}

static void all(const char *spec)
{
    struct device *d;
    struct error e;
    struct tape t;
    if (device_open(&d, spec, &e) != 0)
        die("%s", e.text);
    tape_init(&t, d);
    repeated(&t);
    beside_others(&t);
    several(&t);
    nested(&t);
    unrecorded(&t);
    not_agreed(&t);
    replay_free(NULL);
    tape_release(&t);
    tap_ok(device_memory(d).in_use == 0, "all memory is released");
    device_close(d);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    emulated_cuda();
    all("cuda");
    return tap_done();
}
