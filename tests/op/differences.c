#include "tests/op/checker.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/op/operand.h"

/* With L = sum of dy * y: compares (L(x + h u) - L(x - h u)) / 2h with the gradient along u. */
enum { RANDOM_DIRECTIONS = 2, DIRECTIONS = 6 }; /* the others are single elements */
#define STEP      1e-6                          /* in standard deviations of x */
#define TOLERANCE 1e-4
#define CANCELLED 1e-13 /* of a mean far greater than the deviation: lost by subtraction */
#define NOISE     4e-9  /* of the difference: rounding of y over STEP */
/* Larger cases are skipped: each takes dozens of forward runs. */
#define FLOPS_MAX    6e6
#define ELEMENTS_MAX 20000

struct differences {
    const struct operand *dy;
    struct tensor *y;
    int gradient;     /* operand being compared; -1: none yet */
    int direction;    /* of DIRECTIONS */
    int sign;         /* of the step being evaluated; 0: none */
    int64_t element;  /* of a single-element direction; -1: all */
    double *u;        /* the direction */
    double deviation; /* of x */
    double mean;
    double *upper; /* y(x + h u) */
};

static double step(const struct differences *d)
{
    return STEP * d->deviation;
}

static struct tensor *copy_in_double(struct check *c, const struct operand *o)
{
    const struct tensor *t = o->on[REF];
    if (t->dtype != DTYPE_F32)
        return tensor_retain(o->on[REF]);
    struct tensor *copy = tensor_new(c->device[REF], DTYPE_F64, t->ndim, t->shape);
    float *values = operand_floats(c, REF, o);
    for (int64_t i = 0; i < tensor_count(t); i++)
        ((double *)copy->data)[i] = values[i];
    free(values);
    return copy;
}

void differences_begin(struct check *c, const struct operand *dy)
{
    if (c->mode != MODE_COMPARE || c->failure[0] || c->device[DEVICE]->backend->synchronize ||
        c->flops > FLOPS_MAX || tensor_count(dy->on[REF]) > ELEMENTS_MAX)
        return;
    for (int i = 0; i < c->operand_count; i++)
        if (!c->operands[i].output)
            c->operands[i].in_double = copy_in_double(c, &c->operands[i]);
    struct differences *d = c->differences = xcalloc(1, sizeof *d);
    d->dy = dy;
    d->y = tensor_new(c->device[REF], DTYPE_F64, dy->on[REF]->ndim, dy->on[REF]->shape);
    d->upper = xmalloc((size_t)tensor_count(d->y) * sizeof *d->upper);
    d->gradient = -1;
    d->direction = DIRECTIONS - 1;
}

struct tensor *differences_output(const struct check *c)
{
    return c->differences->y;
}

void differences_release(struct check *c)
{
    if (c->differences) {
        tensor_release(c->differences->y);
        free(c->differences->u);
        free(c->differences->upper);
    }
    free(c->differences);
    c->differences = NULL;
}

static void measure(struct differences *d, const float *x, int64_t n)
{
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; i++)
        mean += (double)x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (double)n;
    d->mean = fabs(mean);
    d->deviation = variance > 0 ? sqrt(variance) : mean ? d->mean : 1;
}

/* Advances to the next direction, and after the last one to the next gradient; false at the end. */
static bool next_direction(struct check *c)
{
    struct differences *d = c->differences;
    if (++d->direction == DIRECTIONS) {
        d->direction = 0;
        do {
            if (++d->gradient == c->operand_count)
                return false;
        } while (!c->operands[d->gradient].of);
    }
    const struct operand *x = c->operands[d->gradient].of;
    int64_t n = tensor_count(x->on[REF]);
    float *draws = operand_floats(c, REF, x);
    measure(d, draws, n);
    d->element = d->direction < RANDOM_DIRECTIONS ? -1 : between(c, 0, n - 1);
    normals(c, draws, (size_t)n, 0, 1);
    d->u = xrealloc(d->u, (size_t)n * sizeof *d->u);
    for (int64_t i = 0; i < n; i++)
        d->u[i] = d->element < 0 ? draws[i] : i == d->element;
    free(draws);
    return true;
}

static void take_step(struct check *c)
{
    struct differences *d = c->differences;
    const struct operand *x = c->operands[d->gradient].of;
    float *values = operand_floats(c, REF, x);
    double *moved = x->in_double->data, *y = d->y->data;
    for (int64_t i = 0; i < tensor_count(x->in_double); i++)
        moved[i] = values[i] + (d->sign * step(d)) * d->u[i];
    for (int64_t i = 0; i < tensor_count(d->y); i++)
        y[i] = NAN;
    free(values);
}

/* The difference of L over both steps. Elements of y are subtracted before they are summed, because
 * their common part would cost digits. *size: of the sum of dy * y, whose rounding is noise. */
static double loss_difference(struct check *c, double *size)
{
    const struct differences *d = c->differences;
    const double *lower = d->y->data;
    float *dy = operand_floats(c, REF, d->dy);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < tensor_count(d->y); i++) {
        sum += dy[i] * (d->upper[i] - lower[i]);
        squares += dy[i] * lower[i] * (dy[i] * lower[i]);
    }
    free(dy);
    *size = sqrt(squares);
    return sum;
}

static void judge(struct check *c, double slope, double size)
{
    const struct differences *d = c->differences;
    const struct operand *o = &c->operands[d->gradient];
    int64_t n = tensor_count(o->on[REF]);
    float *now = operand_floats(c, REF, o), *before = operand_before(REF, o);
    double share = 0, terms = 0, rounded = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!operand_owns(o, i))
            continue;
        double g = o->prefilled ? (double)now[i] - before[i] : now[i];
        share += g * d->u[i];
        terms += g * d->u[i] * (g * d->u[i]);
        rounded += now[i] * d->u[i] * (now[i] * d->u[i]);
        all += g * g / (double)n;
    }
    /* A single element may be small beside the others. */
    double tolerance = TOLERANCE + CANCELLED * d->mean / step(d);
    double allowed = tolerance * sqrt(d->element < 0 ? terms : terms + all) + 1e-7 * sqrt(rounded) +
                     NOISE * size / d->deviation;
    if (!(fabs(slope - share) <= allowed))
        check_failure(c,
                      "%s: element %" PRId64
                      " (-1: all) has slope %.9g, finite differences give %.9g +- %.2g",
                      o->name, d->element, share, slope, allowed);
    free(now);
    free(before);
}

bool differences_next(struct check *c)
{
    struct differences *d = c->differences;
    if (!d)
        return false;
    if (d->sign > 0) {
        memcpy(d->upper, d->y->data, (size_t)tensor_count(d->y) * sizeof *d->upper);
        d->sign = -1;
        take_step(c);
        return true;
    }
    if (d->sign < 0) {
        double size, difference = loss_difference(c, &size);
        judge(c, difference / (2 * step(d)), size);
        d->sign = 0;
        take_step(c); /* back to x */
    }
    if (c->failure[0] || !next_direction(c)) {
        differences_release(c);
        return false;
    }
    d->sign = 1;
    take_step(c);
    return true;
}
