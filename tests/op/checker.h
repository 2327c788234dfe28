#ifndef CCLD_TESTS_OP_CHECKER_H
#define CCLD_TESTS_OP_CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/weights/weights.h"
#include "kernels/device.h"
#include "kernels/tape.h"
#include "kernels/weight.h"

/* Checks every op on a device against the reference in kernels/ref, and both against PyTorch's
 * results. tests/op/NAME.c describes op NAME: the parameters of a case, the cases to try, and how
 * to run one. Operands lie between guard pages, and the rest of their own pages is filled with NaN,
 * so that reads and writes out of bounds are detected. */

enum side { REF, DEVICE, SIDES };
enum { MAX_PARAMETERS = 16, MAX_OPERANDS = 16 };

/* Weights on a device that needs a form of its own: as stored in a checkpoint; in that form; F32
 * with a working copy in that form (kernels/weight.h). */
enum weight_form { FORM_RAW, FORM_WANTED, FORM_WORKING };

/* Distributions of activations. */
enum fill {
    FILL_NORMAL,        /* mean 0, standard deviation 1 */
    FILL_NEAR_CONSTANT, /* mean 1000, standard deviation 0.1 */
    FILL_LARGE,         /* standard deviation 1e4 */
    FILL_SMALL,         /* standard deviation 1e-3, so that epsilons matter */
    FILL_WIDE,          /* standard deviation 10, so that an unshifted softmax overflows */
    FILL_ZERO_ROWS,     /* normal, but every second row of the last dimension is zero */
    FILL_COUNT
};

struct check;

struct op_test {
    const char *name;
    double tolerance;    /* relative L2 error of the device; run may set another for a case */
    bool weight_dtypes;  /* weights are tried as F32, F16 and BF16 */
    bool f32_only;       /* its tensors are F32 on all devices */
    bool library;        /* a GPU's library may choose the algorithm by the batch size */
    bool rounds_kernels; /* gradients of kernels may be rounded to 16 bits before they are added */
    double roundings;    /* to 16 bits on a device of such a type, in addition to the output's */
    const char *parameters[MAX_PARAMETERS];
    const int64_t (*sweep)[MAX_PARAMETERS]; /* cases always tried */
    int sweep_count;
    void (*draw)(struct check *c, int64_t *p); /* draws one more case */
    const int64_t (*bench)[MAX_PARAMETERS];    /* of the published networks; timed by --bench */
    int bench_count;
    void (*run)(struct check *c, const int64_t *p);
};
#define OP(name)          extern const struct op_test test_##name;
#define OP_TRAINING(name) extern const struct op_test test_##name;
#define OP_BACKWARD(name) extern const struct op_test test_##name##_backward;
#include "kernels/ops.def"
extern const struct op_test *const op_tests[]; /* NULL-terminated */

/* A tensor of a case, the same on both sides. */
struct operand {
    const char *name;
    bool output;
    bool prefilled;           /* an output that is added to or updated, and so holds data before */
    int64_t begin, columns;   /* of an output: the columns that the op writes; 0: all */
    const struct operand *of; /* of a gradient: its operand */
    double magnitude;         /* of an output of cancelling terms: their magnitude */
    int64_t count;            /* elements */
    size_t bytes;             /* on the device */
    bool misaligned;          /* aligned on the device only to its element size */
    struct tensor *on[SIDES];
    struct tensor *in_double; /* while differences are taken: an F32 input in F64 */
    float *first_result;      /* an output, while the device runs with another number of threads */
    struct place {
        struct tensor *block; /* device memory, which the CPU cannot guard */
        uint8_t *map;         /* or a mapping with two guard pages */
        size_t map_bytes;
        uint8_t *start;             /* in map: accessible memory, `size` bytes */
        size_t size, before, bytes; /* in total, before the elements, of the elements */
        uint8_t *original;          /* its content before the op ran */
    } place[SIDES];
};

enum check_mode { MODE_COMPARE, MODE_BENCH, MODE_GOLDEN };

struct check {
    enum check_mode mode;
    struct device *device[SIDES];
    struct tape *tape;     /* runs on device[DEVICE] */
    struct tape *ref_tape; /* runs on device[REF] */
    const struct op_test *test;
    enum dtype dtype; /* of activations on the device; ref has them rounded to it */
    enum dtype weight_dtype;
    enum weight_form weight_form; /* if the device needs weights in its own form */
    double work_limit;            /* leaves out cases of more work; 0: none */
    bool alternates;              /* variants of weights, within a sweep */
    bool left_out;
    double tolerance;
    double magnitude; /* of cancelling terms in outputs; 0: none */
    uint64_t random;  /* state of the case's random numbers */
    struct operand operands[MAX_OPERANDS];
    int operand_count;
    char failure[400];  /* empty if the case passed */
    double worst_error; /* greatest share of the tolerance since last cleared */

    const struct weights *golden; /* MODE_GOLDEN: the source of operands */
    const char *golden_case;      /* "conv2d/stride2": the prefix of their names */
    enum side judged;             /* the side compared with the golden output */

    bool started; /* of the side being run */
    int threads;  /* the usual number, while a case runs with another one */
    struct differences *differences;
    double seconds, begun;
    double samples[64];
    int sample_count, batch, batch_left; /* runs per sample, and left */
    double flops, bytes_moved;
    double peak_flops[DTYPE_BF16 + 1], peak_bytes; /* of the device, per second; 0: not measured */
};

/* The members that are alike in every tests/op/NAME.c: its own sweep, draw, bench and run. */
#define OP_TEST(op)                                                                                \
    .name = #op, .sweep = sweep, .sweep_count = sizeof sweep / sizeof *sweep, .draw = draw,        \
    .bench = bench, .bench_count = sizeof bench / sizeof *bench, .run = run

/* Random numbers of the case, which depend on the seed only. */
int64_t between(struct check *c, int64_t low, int64_t high); /* inclusive */
bool coin(struct check *c);
void normals(struct check *c, float *out, size_t n, double mean, double deviation);

/* Ops whose first parameters are n, h, w, c or n, s, d: that shape, and a random one. Half of the
 * random ones have at most 9 channels. */
#define IMAGE(p)    DIMS((p)[0], (p)[1], (p)[2], (p)[3])
#define SEQUENCE(p) DIMS((p)[0], (p)[1], (p)[2])
void draw_image(struct check *c, int64_t *p, int64_t max_n, int64_t max_side, int64_t max_c);
void draw_sequence(struct check *c, int64_t *p, int64_t max_n, int64_t max_s, int64_t max_d);

double fill_magnitude(const struct check *c, enum fill fill); /* root mean square */
double fill_deviation(const struct check *c, enum fill fill);

/* Operands. Values are drawn, or read from the golden file if there is one. */
struct operand *activations(struct check *c, const char *name, enum fill fill, int ndim,
                            const int64_t *shape);
/* The same, but F32 on every device, like the networks' inputs. */
struct operand *outside(struct check *c, const char *name, enum fill fill, int ndim,
                        const int64_t *shape);
struct operand *parameter(struct check *c, const char *name, double mean, double deviation,
                          int64_t count); /* F32 vector */
struct operand *weight(struct check *c, const char *name, int ndim,
                       const int64_t *shape); /* c->weight_dtype, variance 1/fan_in */
struct operand *integers(struct check *c, const char *name, int64_t limit, int ndim,
                         const int64_t *shape);                          /* I32 in [0, limit) */
struct operand *output(struct check *c, int ndim, const int64_t *shape); /* named "y", poisoned */
struct operand *output_named(struct check *c, const char *name, int ndim, const int64_t *shape);
/* An F32 vector that the op updates in place; golden files have NAME and NAME.after. */
struct operand *updated(struct check *c, const char *name, double mean, double deviation,
                        int64_t count);
/* An input computed by ref; value is released here. */
struct operand *computed(struct check *c, const char *name, struct tensor *value);
/* Normal, but zero where z, a ReLU's input, is so close to zero that a finite-difference step could
 * change its sign. z is released here. */
struct operand *gradient_off_kinks(struct check *c, const char *name, struct tensor *z);
/* Gradients of an operand, of its shape: overwritten, or added to. */
struct operand *gradient(struct check *c, const char *name, const struct operand *of);
struct operand *gradient_sum(struct check *c, const char *name, const struct operand *of);
/* The gradient "dx" of an input: overwritten, or added to. */
struct operand *gradient_of_input(struct check *c, const struct operand *x, bool adds);
/* The gradient of a weight if `wanted` includes 2, else NULL; overwritten if it includes FRESH,
 * else added to. With FRESH and COMPACT, the gradient of a matrix is compact if the device can
 * do that (kernels/backward.h). */
enum { FRESH = 8, COMPACT = 32 };
struct operand *gradient_of_weight(struct check *c, const char *name, const struct operand *of,
                                   int64_t wanted);
/* The same of a bias, if `wanted` includes 4. */
struct operand *gradient_of_vector(struct check *c, const char *name, const struct operand *of,
                                   int64_t wanted);
/* An activation's gradient with gaps between rows, which the op must not change. */
struct operand *gradient_between(struct check *c, const char *name, const struct operand *of);
/* Written in some columns of each row; the others must not change. */
struct operand *gradient_columns(struct check *c, const char *name, const struct operand *of,
                                 int64_t begin, int64_t columns);
/* Of this type on both sides. */
struct operand *input_typed(struct check *c, const char *name, enum dtype dtype, int ndim,
                            const int64_t *shape, const void *values);
struct operand *output_typed(struct check *c, const char *name, enum dtype dtype, int ndim,
                             const int64_t *shape);

/* The side that computes what a backward case needs of the forward pass: ref, or the device when
 * timing. */
static inline enum side truth(const struct check *c)
{
    return c->mode == MODE_BENCH ? DEVICE : REF;
}
static inline struct tape *truth_tape(const struct check *c)
{
    return c->mode == MODE_BENCH ? c->tape : c->ref_tape;
}

/* The operand's tensor on a side; NULL for an operand left out. */
static inline struct tensor *on(const struct operand *o, enum side side)
{
    return o ? o->on[side] : NULL;
}

static inline void *element(const struct tensor *t, int64_t i)
{
    return (char *)t->data + (size_t)i * dtype_size(t->dtype);
}

/* Calls both backends' op directly: RUN(c, add, on(a, side), on(b, side), on(y, side)); the
 * arguments use the variable `side`. The device runs a second time with another number of threads,
 * which must give the same bits. When timing, only the device runs, repeatedly. */
#define RUN(c, op, ...)                                                                            \
    for (enum side side = REF; side < SIDES; side++)                                               \
        for (struct op##_args args_ = {__VA_ARGS__}; run_again(c, side);)                          \
    (c)->device[side]->backend->op((c)->device[side], &args_)
bool run_again(struct check *c, enum side side);

/* Judges the case: inputs and surrounding memory are unchanged, and every output element is
 * written, finite and close to ref's (or the golden one). `result` is what the public op returned
 * on the device for the same inputs, and must agree, too; NULL if no public op passes these
 * arguments. Released here. */
void finish(struct check *c, struct tensor *result);
/* Slice i alone must give the same bits as in y, where it was part of a batch. `result` is what the
 * public op returned for it; released here. */
void finish_alone(struct check *c, const struct operand *y, int64_t i, struct tensor *result);
/* Compares ref's gradients with finite differences of the forward pass in double, in random
 * directions and for single elements, after the outputs of RUN have been judged:
 *     for (differences_begin(c, dy); differences_next(c);)
 *         double_add_rows(in_double(x), in_double(rows), differences_output(c)); */
void differences_begin(struct check *c, const struct operand *dy);
bool differences_next(struct check *c);
void differences_release(struct check *c);
struct tensor *differences_output(const struct check *c); /* of dy's shape */
static inline struct tensor *in_double(const struct operand *o)
{
    return o ? o->in_double : NULL;
}
/* The work of one run, for rates: floating-point operations, and bytes read and written. */
void work(struct check *c, double flops, double bytes);

/* Fails the case if the device changed the operand's elements. */
void check_unchanged(struct check *c, const struct operand *o);

void check_failure(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Runs one case from its seed; false and c->failure when it failed. */
bool check_case(struct check *c, const int64_t *p, uint64_t seed);
/* Writes and parses a case's parameters, such as "n=1 h=5". */
void describe(char *text, size_t size, const struct op_test *test, const int64_t *p);
bool parse_parameters(const struct op_test *test, const char *text, int64_t *p);

/* Compares with PyTorch's results (tests/op/golden/make-goldens.py), with a TAP line per case and
 * side. only_op may be NULL. */
void check_goldens(struct check *c, const char *path, const char *only_op);
/* The golden case's operand; ends the program if the file has none of that size. */
const struct weight *golden_operand(const struct check *c, const char *name, int64_t count);

/* Measures the device's peak rates with a large matrix product of each type and a large sum. */
void measure_peaks(struct check *c);

/* Check that the checker detects broken kernels, with a TAP line for each. */
void check_broken_kernels(const struct check *c);
void check_broken_backward_kernels(const struct check *c);
/* While this is set, a fault in the calling thread ends check_case with a failure. */
extern volatile bool fault_expected;

#endif
