#include "kernels/tape.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/record.h"

void tape_init(struct tape *t, struct device *d)
{
    *t = (struct tape){.device = d};
}

static void record_drop(struct record *r)
{
    for (int i = 0; i < RECORD_KEEPS; i++)
        tensor_release(r->keep[i]);
    for (int i = 0; i < RECORD_INPUTS; i++) {
        if (r->inputs[i])
            r->inputs[i]->uses--;
        gradient_release(r->inputs[i]);
    }
    gradient_release(r->output);
}

void tape_release(struct tape *t)
{
    while (t->count > 0)
        record_drop(&t->records[--t->count]);
    free(t->records);
    *t = (struct tape){0};
}

struct record *record_new(struct tape *t, struct tensor *y,
                          void (*backward)(struct tape *, struct record *, struct tensor *),
                          int input_count, struct tensor *const *inputs)
{
    bool wanted = false;
    CHECK(input_count <= RECORD_INPUTS);
    for (int i = 0; i < input_count; i++)
        wanted |= inputs[i] && inputs[i]->gradient;
    if (!t->recording || !wanted)
        return NULL;
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 512;
        t->records = xrealloc(t->records, (size_t)t->capacity * sizeof *t->records);
    }
    struct record *r = &t->records[t->count++];
    *r = (struct record){.backward = backward, .dtype = inputs[0]->dtype, .ndim = inputs[0]->ndim};
    memcpy(r->shape, inputs[0]->shape, sizeof r->shape);
    for (int i = 0; i < input_count; i++) {
        r->inputs[i] = inputs[i] ? gradient_retain(inputs[i]->gradient) : NULL;
        if (r->inputs[i])
            r->inputs[i]->uses++;
    }
    tensor_require_gradient(y);
    r->output = gradient_retain(y->gradient);
    return r;
}

void record_keep(struct record *r, struct tensor *x)
{
    if (!x)
        return;
    for (int i = 0; i < RECORD_KEEPS; i++)
        if (!r->keep[i]) {
            r->keep[i] = tensor_retain(x);
            return;
        }
    CHECK(!"room in the record");
}

void gradient_add(struct tape *t, struct gradient *slot, struct tensor *g)
{
    CHECK(!slot->parameter);
    if (slot->value) {
        CHECK(slot->value->dtype == g->dtype);
        struct tensor *sum = tensor_new(t->device, g->dtype, g->ndim, g->shape);
        struct add_args args = {slot->value, g, sum};
        t->device->backend->add(t->device, &args);
        tensor_release(g);
        tensor_release(slot->value);
        slot->columns = false;
        g = sum;
    }
    slot->value = g;
}

void tape_fresh_gradients(struct tape *t)
{
    static _Atomic int64_t passes;
    t->fresh = true;
    t->pass = ++passes;
}

/* The record has run, and is the last one of some parameters. */
static void report_complete(const struct tape *t, const struct record *r)
{
    for (int i = 0; t->watcher && i < RECORD_INPUTS; i++) {
        const struct gradient *g = r->inputs[i];
        if (g && g->parameter && g->uses == 1)
            t->watcher->completed(t->watcher->context, g);
    }
}

void tape_backward(struct tape *t, struct tensor *y, struct tensor *dy)
{
    CHECK(y->gradient && tensor_same_shape(y, dy) && y->dtype == dy->dtype);
    bool recording = t->recording;
    t->recording = false;
    gradient_add(t, y->gradient, tensor_retain(dy));
    while (t->count > 0) {
        struct record *r = &t->records[--t->count];
        struct tensor *g = r->output->value;
        if (g) {
            r->output->value = NULL;
            r->backward(t, r, g);
            tensor_release(g);
        }
        report_complete(t, r);
        record_drop(r);
    }
    t->recording = recording;
    t->fresh = false;
    t->watcher = NULL;
}

/* A view with its own gradient, at which an inner tape's backward pass stops. */
static struct tensor *detached(struct tensor *x, const struct gradient *wanted)
{
    if (!x)
        return NULL;
    struct tensor *leaf = tensor_reshape(x, x->ndim, x->shape);
    if (wanted)
        tensor_require_gradient(leaf);
    return leaf;
}

static void backward_recompute(struct tape *t, struct record *r, struct tensor *dy)
{
    struct tape inner;
    tape_init(&inner, t->device);
    inner.recording = true;
    inner.fresh = t->fresh;
    inner.pass = t->pass;
    inner.watcher = t->watcher;
    struct tensor *leaves[2];
    for (int i = 0; i < 2; i++)
        leaves[i] = detached(r->keep[i], r->inputs[i]);
    struct tensor *y = r->function(&inner, r->context, leaves[0], leaves[1]);
    tape_backward(&inner, y, dy);
    tensor_release(y);
    for (int i = 0; i < 2; i++) {
        if (leaves[i] && r->inputs[i] && leaves[i]->gradient->value)
            gradient_add(t, r->inputs[i], tensor_retain(leaves[i]->gradient->value));
        tensor_release(leaves[i]);
    }
    tape_release(&inner);
}

struct tensor *tape_recompute(struct tape *t, tape_function *f, const void *context,
                              struct tensor *x, struct tensor *extra)
{
    /* If no gradient flows to the inputs, the parameters inside still need their records. */
    if (!t->recording || !(x->gradient || (extra && extra->gradient)))
        return f(t, context, x, extra);
    t->recording = false;
    struct tensor *y = f(t, context, x, extra);
    t->recording = true;
    struct record *r = record_new(t, y, backward_recompute, 2, (struct tensor *[]){x, extra});
    record_keep(r, x);
    record_keep(r, extra);
    r->function = f;
    r->context = context;
    return y;
}
