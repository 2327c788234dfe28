#include "tests/support/checkpoints.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "tests/support/tap.h"

struct device *checkpoints_device;

const char *checkpoints_folder(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

struct parameters *checkpoints_parameters(int64_t width)
{
    struct tensor_spec items[] = {
        {.name = "autoencoder_scale",
         .kind = TENSOR_SCALAR,
         .ndim = 1,
         .shape = {1},
         .value = 8.5f},
        {.name = "net.0.main.0.weight", .ndim = 4, .shape = {width, 20, 3, 3}},
        {.name = "net.0.main.0.bias", .ndim = 1, .shape = {width}},
        {.name = "timestep_embed.weight", .kind = TENSOR_FIXED, .ndim = 2, .shape = {8, 1}},
        {.name = "mapping.0.main.0.weight", .ndim = 2, .shape = {33, 7}},
    };
    struct architecture architecture = {items, sizeof items / sizeof *items, 0};
    return parameters_empty(&architecture, NET_UNET, checkpoints_device);
}

void checkpoints_each(struct parameters *p,
                      void (*f)(struct parameters *p, enum parameter_array array,
                                const struct parameter *t, void *arg),
                      void *arg)
{
    for (int a = 0; a < ARRAY_COUNT; a++) {
        int count = a == ARRAY_WEIGHTS || a == ARRAY_EMA ? p->count : p->trained_count;
        for (int i = 0; a != ARRAY_GRADIENTS && i < count; i++)
            f(p, a, &p->tensors[i], arg);
    }
}

void checkpoints_draw(struct parameters *p, enum parameter_array array, const struct parameter *t,
                      void *seed)
{
    float *x = xmalloc((size_t)t->count * sizeof *x);
    rng_normal(x, (size_t)t->count, *(uint64_t *)seed + (uint64_t)array, RNG_INITIAL_WEIGHTS, 0,
               (uint64_t)t->offset, 0);
    parameters_write(p, array, t->offset, t->count, x);
    free(x);
}

void checkpoints_set(struct parameters *p, enum parameter_array array, const struct parameter *t,
                     void *value)
{
    float *x = xmalloc((size_t)t->count * sizeof *x);
    for (int64_t i = 0; i < t->count; i++)
        x[i] = *(float *)value;
    parameters_write(p, array, t->offset, t->count, x);
    free(x);
}

void checkpoints_compare(struct parameters *p, enum parameter_array array,
                         const struct parameter *t, void *arg)
{
    struct checkpoints_comparison *c = arg;
    const float *x = parameters_read(p, array, t->offset, t->count, NULL);
    const struct parameter *o = c->other ? parameters_find(c->other, t->name) : NULL;
    if (c->other && (!o || o->count != t->count ||
                     memcmp(x, parameters_read(c->other, array, o->offset, o->count, NULL),
                            (size_t)t->count * sizeof *x) != 0))
        c->same = false;
    for (int64_t i = 0; !c->other && i < t->count; i++)
        c->same &= x[i] == c->value;
}

bool checkpoints_equal(struct parameters *a, const struct parameters *p)
{
    struct checkpoints_comparison c = {.other = p,
                                       .same = a->count == p->count && a->updates == p->updates};
    checkpoints_each(a, checkpoints_compare, &c);
    c.same &= a->scalar_count == 1 && p->scalar_count == 1 &&
              strcmp(a->scalars[0].name, p->scalars[0].name) == 0 &&
              a->scalars[0].value == p->scalars[0].value;
    return c.same;
}

struct run *checkpoints_run(const char *folder)
{
    struct run *r = NULL;
    struct error e;
    if (run_open(&r, folder, &e) != 0)
        tap_diag("%s", e.text);
    CHECK(r);
    return r;
}

bool checkpoints_save(struct run *r, struct parameters *p, int64_t step, int64_t keep)
{
    struct training_state s;
    struct error e;
    training_state_init(&s);
    s.step = step;
    int status = checkpoint_save(r, p, &s, keep, &e);
    if (status != 0)
        tap_diag("%s", e.text);
    training_state_release(&s);
    return status == 0;
}

int checkpoints_load(struct parameters **p, int64_t *step, const char *path, struct error *e)
{
    struct training_state s;
    char *checkpoint;
    if (checkpoint_find(path, &checkpoint, NULL, e) != 0)
        return -1;
    int status = checkpoint_read_state(&s, checkpoint, e);
    if (status == 0) {
        status = checkpoint_load_parameters(p, &s, checkpoint, checkpoints_device, NULL, NULL, e);
        *step = s.step;
        training_state_release(&s);
    }
    free(checkpoint);
    return status;
}

const char *checkpoints_entries(const char *folder)
{
    static char text[4096];
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort);
    text[0] = 0;
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.')
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", list[i]->d_name);
        free(list[i]);
    }
    free(list);
    return text;
}
