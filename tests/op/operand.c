#include "tests/op/checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/op/operand.h"

/* Fills memory that no op may read or leave unwritten: a NaN as F32, F16 and BF16, and a token no
 * table has. */
#define POISON 0x7fc0
enum { SLACK_BYTES = 256 };

uint64_t draw_bits(struct check *c)
{
    uint64_t z = c->random += UINT64_C(0x9E3779B97F4A7C15); /* splitmix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

int64_t between(struct check *c, int64_t low, int64_t high)
{
    return low + (int64_t)(draw_bits(c) % (uint64_t)(high - low + 1));
}

bool coin(struct check *c)
{
    return draw_bits(c) >> 63;
}

/* Near enough to normal: the sum of four uniform numbers of 16 bits. */
void normals(struct check *c, float *out, size_t n, double mean, double deviation)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = draw_bits(c);
        double sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (double)(bits >> (16 * k) & 0xffff) * 0x1p-16 - 0.5;
        out[i] = (float)(mean + deviation * sum * sqrt(3));
    }
}

static int64_t product(int ndim, const int64_t *shape)
{
    int64_t count = 1;
    for (int i = 0; i < ndim; i++)
        count *= shape[i];
    return count;
}

static void poison(uint8_t *start, size_t size)
{
    for (size_t i = 0; i + 1 < size; i += 2) {
        start[i] = POISON & 0xff;
        start[i + 1] = POISON >> 8;
    }
}

/* Between two guard pages; the elements touch one of them, so that a step too far faults. */
static void map_guarded(struct check *c, struct place *place, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    place->size = (bytes + SLACK_BYTES + page - 1) / page * page;
    place->before = coin(c) ? place->size - bytes : 0;
    place->map_bytes = place->size + 2 * page;
    place->map = mmap(NULL, place->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(place->map != MAP_FAILED);
    place->start = place->map + page;
    CHECK(mprotect(place->start, place->size, PROT_READ | PROT_WRITE) == 0);
}

static void place_create(struct check *c, enum side side, struct operand *o, enum dtype dtype,
                         int ndim, const int64_t *shape, const void *values)
{
    struct device *d = c->device[side];
    struct place *place = &o->place[side];
    if (d->host_memory) {
        map_guarded(c, place, o->bytes);
    } else {
        place->before = SLACK_BYTES;
        place->size = o->bytes + 2 * SLACK_BYTES;
    }
    place->original = xmalloc(place->size);
    poison(place->original, place->size);
    if (values)
        memcpy(place->original + place->before, values, o->bytes);
    if (d->host_memory) {
        memcpy(place->start, place->original, place->size);
        o->on[side] = tensor_borrow(d, dtype, ndim, shape, place->start + place->before);
        return;
    }
    int64_t size = (int64_t)dtype_size(dtype);
    place->block = tensor_new(d, dtype, DIMS((int64_t)place->size / size));
    d->backend->upload(d, place->block->data, place->original, place->size);
    struct tensor *inside =
        tensor_slice(place->block, SLACK_BYTES / size, (int64_t)o->bytes / size);
    o->on[side] = tensor_reshape(inside, ndim, shape);
    tensor_release(inside);
}

static struct operand *operand_create(struct check *c, const char *name, enum dtype dtype, int ndim,
                                      const int64_t *shape, const void *values)
{
    CHECK(c->operand_count < MAX_OPERANDS);
    struct operand *o = &c->operands[c->operand_count++];
    *o = (struct operand){.name = name};
    o->bytes = (size_t)product(ndim, shape) * dtype_size(dtype);
    for (enum side side = REF; side < SIDES; side++)
        place_create(c, side, o, dtype, ndim, shape, values);
    return o;
}

static struct operand *from_golden(struct check *c, const char *name, int ndim,
                                   const int64_t *shape)
{
    const struct weight *w = golden_operand(c, name, product(ndim, shape));
    void *values = xmalloc(weight_bytes(w));
    weight_copy(w, values);
    struct operand *o = operand_create(c, name, w->dtype, ndim, shape, values);
    free(values);
    return o;
}

/* Takes over values. */
static struct operand *from_floats(struct check *c, const char *name, enum dtype dtype, int ndim,
                                   const int64_t *shape, float *values)
{
    size_t count = (size_t)product(ndim, shape);
    void *converted = xmalloc(count * dtype_size(dtype));
    dtype_from_f32(dtype, converted, values, count);
    struct operand *o = operand_create(c, name, dtype, ndim, shape, converted);
    free(converted);
    free(values);
    return o;
}

static const struct {
    double mean, deviation;
} fills[FILL_COUNT] = {{0, 1}, {1000, 0.1}, {0, 1e4}, {0, 1e-3}, {0, 10}, {0, 1}};

double fill_magnitude(enum fill fill)
{
    return hypot(fills[fill].mean, fills[fill].deviation);
}

double fill_deviation(enum fill fill)
{
    return fills[fill].deviation;
}

struct operand *activations(struct check *c, const char *name, enum fill fill, int ndim,
                            const int64_t *shape)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, ndim, shape);
    int64_t count = product(ndim, shape), last = shape[ndim - 1];
    float *values = xmalloc((size_t)count * sizeof(float));
    normals(c, values, (size_t)count, fills[fill].mean, fills[fill].deviation);
    if (fill == FILL_ZERO_ROWS)
        for (int64_t i = 0; i < count; i++)
            if (i / last % 2 == 0)
                values[i] = 0;
    return from_floats(c, name, DTYPE_F32, ndim, shape, values);
}

struct operand *parameter(struct check *c, const char *name, double mean, double deviation,
                          int64_t count)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, DIMS(count));
    float *values = xmalloc((size_t)count * sizeof(float));
    normals(c, values, (size_t)count, mean, deviation);
    return from_floats(c, name, DTYPE_F32, DIMS(count), values);
}

struct operand *weight(struct check *c, const char *name, int ndim, const int64_t *shape)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, ndim, shape);
    int64_t count = product(ndim, shape);
    float *values = xmalloc((size_t)count * sizeof(float));
    normals(c, values, (size_t)count, 0, 1 / sqrt((double)(count / shape[0])));
    return from_floats(c, name, c->weight_dtype, ndim, shape, values);
}

struct operand *integers(struct check *c, const char *name, int64_t limit, int ndim,
                         const int64_t *shape)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, ndim, shape);
    int64_t count = product(ndim, shape);
    int32_t *values = xmalloc((size_t)count * sizeof(int32_t));
    for (int64_t i = 0; i < count; i++)
        values[i] = (int32_t)between(c, 0, limit - 1);
    struct operand *o = operand_create(c, name, DTYPE_I32, ndim, shape, values);
    free(values);
    return o;
}

struct operand *output(struct check *c, int ndim, const int64_t *shape)
{
    return output_named(c, "y", ndim, shape);
}

struct operand *output_named(struct check *c, const char *name, int ndim, const int64_t *shape)
{
    struct operand *o = operand_create(c, name, DTYPE_F32, ndim, shape, NULL);
    o->output = true;
    return o;
}

struct operand *updated(struct check *c, const char *name, double mean, double deviation,
                        int64_t count)
{
    struct operand *o = parameter(c, name, mean, deviation, count);
    o->output = o->prefilled = true;
    return o;
}

struct operand *computed(struct check *c, const char *name, struct tensor *value)
{
    float *values = xmalloc((size_t)tensor_count(value) * sizeof(float));
    tensor_to_f32(value, values);
    struct operand *o = from_floats(c, name, DTYPE_F32, value->ndim, value->shape, values);
    tensor_release(value);
    return o;
}

struct operand *gradient_off_kinks(struct check *c, const char *name, struct tensor *z)
{
    size_t n = (size_t)tensor_count(z);
    float *at = xmalloc(n * sizeof(float)), *values = xmalloc(n * sizeof(float));
    double squares = 0;
    tensor_to_f32(z, at);
    normals(c, values, n, 0, 1);
    for (size_t i = 0; i < n; i++)
        squares += (double)at[i] * at[i];
    for (size_t i = 0; i < n; i++)
        if (fabs(at[i]) < 1e-4 * sqrt(squares / (double)n))
            values[i] = 0;
    struct operand *o = c->mode == MODE_GOLDEN
                            ? from_golden(c, name, z->ndim, z->shape)
                            : from_floats(c, name, DTYPE_F32, z->ndim, z->shape, values);
    if (c->mode == MODE_GOLDEN)
        free(values);
    free(at);
    tensor_release(z);
    return o;
}

struct operand *gradient(struct check *c, const char *name, const struct operand *of)
{
    struct operand *o = output_named(c, name, of->on[REF]->ndim, of->on[REF]->shape);
    o->of = of;
    return o;
}

struct operand *gradient_sum(struct check *c, const char *name, const struct operand *of)
{
    const struct tensor *t = of->on[REF];
    size_t count = (size_t)tensor_count(t);
    float *values = xcalloc(count, sizeof(float)); /* what golden files have starts from nothing */
    if (c->mode != MODE_GOLDEN)
        normals(c, values, count, 0, 1);
    struct operand *o = from_floats(c, name, DTYPE_F32, t->ndim, t->shape, values);
    o->output = o->prefilled = true;
    o->of = of;
    return o;
}

/* A malloc'ed copy of what the place holds now. */
static uint8_t *place_read(struct check *c, enum side side, const struct operand *o)
{
    const struct place *place = &o->place[side];
    uint8_t *now = xmalloc(place->size);
    if (place->start)
        memcpy(now, place->start, place->size);
    else
        c->device[side]->backend->download(c->device[side], now, place->block->data, place->size);
    return now;
}

void operand_check_memory(struct check *c, enum side side, const struct operand *o)
{
    const struct place *place = &o->place[side];
    size_t end = place->before + o->bytes;
    uint8_t *now = place_read(c, side, o);
    if (memcmp(now, place->original, place->before))
        check_failure(c, "wrote before the begin of %s", o->name);
    if (memcmp(now + end, place->original + end, place->size - end))
        check_failure(c, "wrote past the end of %s", o->name);
    if (!o->output && memcmp(now + place->before, place->original + place->before, o->bytes))
        check_failure(c, "changed its input %s", o->name);
    free(now);
}

void operand_restore(struct check *c, enum side side, const struct operand *o)
{
    const struct place *place = &o->place[side];
    if (place->start)
        memcpy(place->start, place->original, place->size);
    else
        c->device[side]->backend->upload(c->device[side], place->block->data, place->original,
                                         place->size);
}

float *operand_before(enum side side, const struct operand *o)
{
    float *before = xmalloc(o->bytes);
    memcpy(before, o->place[side].original + o->place[side].before, o->bytes);
    return before;
}

float *operand_floats(struct check *c, enum side side, const struct operand *o)
{
    uint8_t *now = place_read(c, side, o);
    memmove(now, now + o->place[side].before, o->bytes);
    return (float *)now;
}

void operands_release(struct check *c)
{
    for (int i = 0; i < c->operand_count; i++) {
        tensor_release(c->operands[i].in_double);
        free(c->operands[i].first_result);
        for (enum side side = REF; side < SIDES; side++) {
            struct place *place = &c->operands[i].place[side];
            tensor_release(c->operands[i].on[side]);
            tensor_release(place->block);
            if (place->map)
                munmap(place->map, place->map_bytes);
            free(place->original);
        }
    }
    c->operand_count = 0;
}
