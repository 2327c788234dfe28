#include "tests/op/checker.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/op/operand.h"
#include "tests/support/weight_copy.h"

/* Fills memory that no op may read or leave unwritten: NaN as F32, F16 and BF16, and an invalid
 * token. */
#define POISON 0x7fc0
enum { SLACK_BYTES = 256 };
enum { BENCH_DRAWN = 1 << 20 }; /* numbers; longer operands repeat them */

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

/* Approximately normal: the sum of four uniform 16-bit numbers. */
void normals(struct check *c, float *out, size_t n, double mean, double deviation)
{
    size_t drawn = c->mode == MODE_BENCH && n > BENCH_DRAWN ? BENCH_DRAWN : n;
    for (size_t i = 0; i < drawn; i++) {
        uint64_t bits = draw_bits(c);
        double sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (double)(bits >> (16 * k) & 0xffff) * 0x1p-16 - 0.5;
        out[i] = (float)(mean + deviation * sum * sqrt(3));
    }
    for (size_t i = drawn; i < n; i++)
        out[i] = out[i - drawn];
}

void draw_image(struct check *c, int64_t *p, int64_t max_n, int64_t max_side, int64_t max_c)
{
    p[0] = between(c, 1, max_n);
    p[1] = between(c, 1, max_side);
    p[2] = between(c, 1, max_side);
    p[3] = between(c, 1, coin(c) ? 9 : max_c);
}

void draw_sequence(struct check *c, int64_t *p, int64_t max_n, int64_t max_s, int64_t max_d)
{
    p[0] = between(c, 1, max_n);
    p[1] = between(c, 1, max_s);
    p[2] = between(c, 1, coin(c) ? 9 : max_d);
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

/* Maps memory between two guard pages; the elements touch one of them, so that a step too far
 * faults. */
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
    size_t size = dtype_size(dtype);
    place->bytes = (size_t)o->count * size;
    if (c->mode == MODE_BENCH && side == REF && o->count > BENCH_DRAWN) { /* never read */
        o->on[side] = tensor_borrow(d, dtype, ndim, shape, NULL);
        return;
    }
    if (d->host_memory) {
        map_guarded(c, place, place->bytes);
    } else {
        /* Parameters are in one array, each at the end of the previous one. */
        place->before = SLACK_BYTES + (o->misaligned ? size : 0);
        place->size = (place->bytes + 2 * SLACK_BYTES + size) / size * size;
    }
    place->original = xmalloc(place->size);
    poison(place->original, place->size);
    if (values)
        memcpy(place->original + place->before, values, place->bytes);
    if (d->host_memory) {
        memcpy(place->start, place->original, place->size);
        o->on[side] = tensor_borrow(d, dtype, ndim, shape, place->start + place->before);
        return;
    }
    place->block = tensor_new(d, dtype, DIMS((int64_t)(place->size / size)));
    d->backend->upload(d, place->block->data, place->original, place->size);
    struct tensor *inside = tensor_slice(place->block, (int64_t)(place->before / size), o->count);
    o->on[side] = tensor_reshape(inside, ndim, shape);
    tensor_release(inside);
}

static struct operand *operand_begin(struct check *c, const char *name, int ndim,
                                     const int64_t *shape)
{
    CHECK(c->operand_count < MAX_OPERANDS);
    struct operand *o = &c->operands[c->operand_count++];
    *o = (struct operand){.name = name, .count = product(ndim, shape)};
    return o;
}

static struct operand *operand_end(struct operand *o)
{
    o->bytes = o->place[DEVICE].bytes;
    return o;
}

struct operand *input_typed(struct check *c, const char *name, enum dtype dtype, int ndim,
                            const int64_t *shape, const void *values)
{
    struct operand *o = operand_begin(c, name, ndim, shape);
    for (enum side side = REF; side < SIDES; side++)
        place_create(c, side, o, dtype, ndim, shape, values);
    return operand_end(o);
}

struct operand *output_typed(struct check *c, const char *name, enum dtype dtype, int ndim,
                             const int64_t *shape)
{
    struct operand *o = input_typed(c, name, dtype, ndim, shape, NULL);
    o->output = true;
    return o;
}

static struct operand *from_golden(struct check *c, const char *name, int ndim,
                                   const int64_t *shape)
{
    const struct weight *w = golden_operand(c, name, product(ndim, shape));
    void *values = xmalloc(weight_bytes(w));
    weight_copy(w, values);
    struct operand *o = input_typed(c, name, w->dtype, ndim, shape, values);
    free(values);
    return o;
}

static void round_floats(enum dtype dtype, float *values, size_t count)
{
    if (dtype == DTYPE_F32)
        return;
    void *rounded = xmalloc(count * dtype_size(dtype));
    dtype_from_f32(dtype, rounded, values, count);
    dtype_to_f32(values, dtype, rounded, count);
    free(rounded);
}

/* F32 for ref, `dtype` on the device; values are rounded to it first. Takes over values; NULL: the
 * memory stays poisoned. */
static struct operand *of_type(struct check *c, const char *name, enum dtype dtype, int ndim,
                               const int64_t *shape, float *values)
{
    struct operand *o = operand_begin(c, name, ndim, shape);
    void *converted = NULL;
    if (values) {
        converted = xmalloc((size_t)o->count * dtype_size(dtype));
        round_floats(dtype, values, (size_t)o->count);
        dtype_from_f32(dtype, converted, values, (size_t)o->count);
    }
    place_create(c, REF, o, DTYPE_F32, ndim, shape, values);
    place_create(c, DEVICE, o, dtype, ndim, shape, converted);
    free(converted);
    free(values);
    return operand_end(o);
}

/* An F32 vector inside a larger array. Takes over values. */
static struct operand *of_parameters(struct check *c, const char *name, int ndim,
                                     const int64_t *shape, float *values)
{
    struct operand *o = operand_begin(c, name, ndim, shape);
    o->misaligned = coin(c) && !c->test->f32_only; /* those get separate arrays */
    for (enum side side = REF; side < SIDES; side++)
        place_create(c, side, o, DTYPE_F32, ndim, shape, values);
    free(values);
    return operand_end(o);
}

static const struct fill_values {
    double mean, deviation;
} fills[FILL_COUNT] = {{0, 1}, {1000, 0.1}, {0, 1e4}, {0, 1e-3}, {0, 10}, {0, 1}};

/* Values that 16 bits can represent and distinguish. */
static struct fill_values fill_values(const struct check *c, enum fill fill)
{
    if (c->dtype != DTYPE_F32 && fill == FILL_NEAR_CONSTANT)
        return (struct fill_values){1000, c->dtype == DTYPE_BF16 ? 16 : 2};
    if (c->dtype == DTYPE_F16 && fill == FILL_LARGE)
        return (struct fill_values){0, 1e3};
    return fills[fill];
}

double fill_magnitude(const struct check *c, enum fill fill)
{
    struct fill_values v = fill_values(c, fill);
    return hypot(v.mean, v.deviation);
}

double fill_deviation(const struct check *c, enum fill fill)
{
    return fill_values(c, fill).deviation;
}

static float *draw_fill(struct check *c, enum fill fill, int ndim, const int64_t *shape)
{
    int64_t count = product(ndim, shape), last = shape[ndim - 1];
    float *values = xmalloc((size_t)count * sizeof(float));
    struct fill_values v = fill_values(c, fill);
    normals(c, values, (size_t)count, v.mean, v.deviation);
    if (fill == FILL_ZERO_ROWS)
        for (int64_t i = 0; i < count; i++)
            if (i / last % 2 == 0)
                values[i] = 0;
    return values;
}

struct operand *activations(struct check *c, const char *name, enum fill fill, int ndim,
                            const int64_t *shape)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, ndim, shape);
    return of_type(c, name, c->dtype, ndim, shape, draw_fill(c, fill, ndim, shape));
}

struct operand *outside(struct check *c, const char *name, enum fill fill, int ndim,
                        const int64_t *shape)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, ndim, shape);
    return of_type(c, name, DTYPE_F32, ndim, shape, draw_fill(c, fill, ndim, shape));
}

struct operand *parameter(struct check *c, const char *name, double mean, double deviation,
                          int64_t count)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, DIMS(count));
    float *values = xmalloc((size_t)count * sizeof(float));
    normals(c, values, (size_t)count, mean, deviation);
    return of_parameters(c, name, DIMS(count), values);
}

/* Fails the case unless t, a kernel or matrix in the device's form, holds these values. */
static void check_form(struct check *c, const struct tensor *t, const float *values)
{
    size_t count = (size_t)tensor_count(t);
    int64_t taps = t->ndim == 4 ? t->shape[2] * t->shape[3] : 1;
    int64_t ci = t->shape[1], wrong = 0;
    float *now = xmalloc(count * sizeof(float));
    tensor_to_f32(t, now);
    for (int64_t i = 0; i < (int64_t)count; i++) {
        int64_t tap = i % taps, channel = i / taps % ci, first = i - i % (taps * ci);
        int64_t at = t->channels_last ? first + tap * ci + channel : i;
        wrong += now[at] != values[i];
    }
    if (t->dtype != c->dtype || t->channels_last != (taps > 1) || wrong)
        check_failure(c, "a weight in the device's form has %" PRId64 " wrong elements of %zu",
                      wrong, count);
    free(now);
}

/* For a device that needs weights in its own form: as stored in a checkpoint, in that form, or F32
 * with a copy in that form. ref gets them rounded to the device's compute type. */
static struct operand *weight_in_form(struct check *c, const char *name, int ndim,
                                      const int64_t *shape, float *values)
{
    struct device *d = c->device[DEVICE];
    struct operand *o = operand_begin(c, name, ndim, shape);
    size_t count = (size_t)o->count;
    void *raw = xmalloc(count * dtype_size(c->weight_dtype));
    dtype_from_f32(c->weight_dtype, raw, values, count);
    round_floats(c->weight_dtype, values, count);
    o->misaligned = c->weight_form != FORM_WANTED && coin(c);
    if (c->weight_form == FORM_WANTED) {
        struct tensor *wanted = weight_from_host(d, c->weight_dtype, ndim, shape, raw);
        size_t bytes = count * dtype_size(wanted->dtype);
        raw = xrealloc(raw, bytes);
        d->backend->download(d, raw, wanted->data, bytes);
        place_create(c, DEVICE, o, wanted->dtype, ndim, shape, raw);
        o->on[DEVICE]->channels_last = wanted->channels_last;
        tensor_release(wanted);
    } else {
        place_create(c, DEVICE, o, c->weight_dtype, ndim, shape, raw);
    }
    if (c->weight_form == FORM_WORKING)
        weights_refresh(d, &o->on[DEVICE], 1);
    round_floats(c->dtype, values, count);
    if (c->weight_form == FORM_WANTED)
        check_form(c, o->on[DEVICE], values);
    else if (o->on[DEVICE]->working)
        check_form(c, o->on[DEVICE]->working, values);
    place_create(c, REF, o, DTYPE_F32, ndim, shape, values);
    free(raw);
    return operand_end(o);
}

struct operand *weight(struct check *c, const char *name, int ndim, const int64_t *shape)
{
    if (c->mode == MODE_GOLDEN)
        return from_golden(c, name, ndim, shape);
    int64_t count = product(ndim, shape);
    float *values = xmalloc((size_t)count * sizeof(float));
    struct operand *o;
    normals(c, values, (size_t)count, 0, 1 / sqrt((double)(count / shape[0])));
    if (c->device[DEVICE]->backend->convert_weights) {
        o = weight_in_form(c, name, ndim, shape, values);
    } else {
        /* Whether a product rounds its weights to the activations' type depends on the algorithm.
         */
        round_floats(c->dtype, values, (size_t)count);
        void *converted = xmalloc((size_t)count * dtype_size(c->weight_dtype));
        dtype_from_f32(c->weight_dtype, converted, values, (size_t)count);
        o = input_typed(c, name, c->weight_dtype, ndim, shape, converted);
        free(converted);
    }
    free(values);
    return o;
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
    struct operand *o = input_typed(c, name, DTYPE_I32, ndim, shape, values);
    free(values);
    return o;
}

struct operand *output(struct check *c, int ndim, const int64_t *shape)
{
    return output_named(c, "y", ndim, shape);
}

struct operand *output_named(struct check *c, const char *name, int ndim, const int64_t *shape)
{
    struct operand *o = of_type(c, name, c->dtype, ndim, shape, NULL);
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
    struct operand *o = of_type(c, name, c->dtype, value->ndim, value->shape, values);
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
                            : of_type(c, name, c->dtype, z->ndim, z->shape, values);
    if (c->mode == MODE_GOLDEN)
        free(values);
    free(at);
    tensor_release(z);
    return o;
}

/* Has the type of its operand. */
struct operand *gradient(struct check *c, const char *name, const struct operand *of)
{
    const struct tensor *t = of->on[REF];
    struct operand *o = of_type(c, name, of->on[DEVICE]->dtype, t->ndim, t->shape, NULL);
    o->output = true;
    o->of = of;
    return o;
}

struct operand *gradient_sum(struct check *c, const char *name, const struct operand *of)
{
    const struct tensor *t = of->on[REF];
    size_t count = (size_t)tensor_count(t);
    float *values = xcalloc(count, sizeof(float)); /* golden results start from zero */
    if (c->mode != MODE_GOLDEN)
        normals(c, values, count, 0, 1);
    struct operand *o = of_parameters(c, name, t->ndim, t->shape, values);
    o->output = o->prefilled = true;
    o->of = of;
    return o;
}

static struct operand *gradient_of_parameter(struct check *c, const char *name,
                                             const struct operand *of, bool fresh)
{
    if (!fresh)
        return gradient_sum(c, name, of);
    const struct tensor *t = of->on[REF];
    struct operand *o = of_parameters(c, name, t->ndim, t->shape, NULL);
    o->output = true;
    o->of = of;
    return o;
}

struct operand *gradient_of_weight(struct check *c, const char *name, const struct operand *of,
                                   int64_t wanted)
{
    const struct tensor *t = of->on[REF];
    bool matrix = t->ndim == 2 || t->shape[2] * t->shape[3] == 1;
    if (!(wanted & 2))
        return NULL;
    if (!matrix || !(wanted & FRESH) || !(wanted & COMPACT) ||
        !c->device[DEVICE]->backend->convert_weights)
        return gradient_of_parameter(c, name, of, wanted & FRESH);
    struct operand *o = of_type(c, name, c->dtype, t->ndim, t->shape, NULL);
    o->output = true;
    o->of = of;
    return o;
}

struct operand *gradient_of_vector(struct check *c, const char *name, const struct operand *of,
                                   int64_t wanted)
{
    return of && wanted & 4 ? gradient_of_parameter(c, name, of, wanted & FRESH) : NULL;
}

struct operand *gradient_between(struct check *c, const char *name, const struct operand *of)
{
    const struct tensor *t = of->on[REF];
    float *values = xmalloc((size_t)tensor_count(t) * sizeof(float));
    normals(c, values, (size_t)tensor_count(t), 0, 1);
    struct operand *o = of_type(c, name, of->on[DEVICE]->dtype, t->ndim, t->shape, values);
    o->output = o->prefilled = true;
    o->of = of;
    return o;
}

struct operand *gradient_of_input(struct check *c, const struct operand *x, bool adds)
{
    return adds ? gradient_between(c, "dx", x) : gradient(c, "dx", x);
}

struct operand *gradient_columns(struct check *c, const char *name, const struct operand *of,
                                 int64_t begin, int64_t columns)
{
    const struct tensor *t = of->on[REF];
    if (columns == tensor_last(t))
        return gradient(c, name, of);
    float *values = xmalloc((size_t)tensor_count(t) * sizeof(float));
    normals(c, values, (size_t)tensor_count(t), 0, 1);
    for (int64_t row = 0; row < tensor_rows(t); row++)
        for (int64_t i = begin; i < begin + columns; i++)
            values[row * tensor_last(t) + i] = NAN;
    struct operand *o = of_type(c, name, of->on[DEVICE]->dtype, t->ndim, t->shape, values);
    o->output = true;
    o->of = of;
    o->begin = begin;
    o->columns = columns;
    return o;
}

bool operand_owns(const struct operand *o, int64_t i)
{
    int64_t column = i % tensor_last(o->on[REF]) - o->begin;
    return !o->columns || (column >= 0 && column < o->columns);
}

/* A malloc'ed copy of the place's present content. */
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
    size_t end = place->before + place->bytes, element = dtype_size(o->on[side]->dtype);
    const uint8_t *before = place->original + place->before;
    uint8_t *now = place_read(c, side, o);
    if (memcmp(now, place->original, place->before))
        check_failure(c, "wrote before the start of %s", o->name);
    if (memcmp(now + end, place->original + end, place->size - end))
        check_failure(c, "wrote past the end of %s", o->name);
    if (!o->output && memcmp(now + place->before, before, place->bytes))
        check_failure(c, "changed its input %s", o->name);
    for (size_t i = 0; o->columns && i < (size_t)o->count; i++)
        if (!operand_owns(o, (int64_t)i) &&
            memcmp(now + place->before + i * element, before + i * element, element))
            check_failure(c, "changed columns of %s that it must not write", o->name);
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

/* The elements of a copy of the place, as floats. */
static float *floats(enum side side, const struct operand *o, const uint8_t *copy)
{
    float *values = xmalloc((size_t)o->count * sizeof(float));
    dtype_to_f32(values, o->on[side]->dtype, copy + o->place[side].before, (size_t)o->count);
    return values;
}

float *operand_before(enum side side, const struct operand *o)
{
    return floats(side, o, o->place[side].original);
}

float *operand_floats(struct check *c, enum side side, const struct operand *o)
{
    uint8_t *now = place_read(c, side, o);
    float *values = floats(side, o, now);
    free(now);
    return values;
}

void check_unchanged(struct check *c, const struct operand *o)
{
    const struct place *place = &o->place[DEVICE];
    uint8_t *now = place_read(c, DEVICE, o);
    if (memcmp(now + place->before, place->original + place->before, place->bytes))
        check_failure(c, "changed %s", o->name);
    free(now);
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
