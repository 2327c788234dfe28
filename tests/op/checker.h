#ifndef CCLD_TESTS_OP_CHECKER_H
#define CCLD_TESTS_OP_CHECKER_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/weights/weights.h"
#include "kernels/device.h"
#include "kernels/tape.h"
#include "kernels/weight.h"

/* Every op on a device against the plain C of kernels/ref, and both against PyTorch's results.
 * tests/op/NAME.c describes op NAME: which parameters a case has, which cases to try, and how one
 * case is run. Memory of operands lies between pages that cannot be touched, and what is left of
 * their own pages is filled with NaN: reads and writes outside are seen. */

enum side { REF, DEVICE, SIDES };
enum { MAX_PARAMETERS = 16, MAX_OPERANDS = 16 };

/* Weights on a device that wants a form of its own: as they lie in a checkpoint; in that form; F32
 * with a working copy of that form (kernels/weight.h). */
enum weight_form { FORM_RAW, FORM_WANTED, FORM_WORKING };

/* What activations look like. */
enum fill {
    FILL_NORMAL,        /* mean 0, standard deviation 1 */
    FILL_NEAR_CONSTANT, /* mean 1000, standard deviation 0.1 */
    FILL_LARGE,         /* standard deviation 1e4 */
    FILL_SMALL,         /* standard deviation 1e-3: epsilons matter */
    FILL_WIDE,          /* standard deviation 10: softmax overflows unless it is shifted */
    FILL_ZERO_ROWS,     /* normal, but every second row of the last dimension is zero */
    FILL_COUNT
};

struct check;

struct op_test {
    const char *name;
    double tolerance;   /* relative L2 of device against ref; run may set a case's own */
    bool weight_dtypes; /* weights come as F32, F16 and BF16 */
    bool f32_only;      /* its tensors have one type on all devices */
    bool library;       /* a GPU's library may choose by the size of the batch how it is computed */
    bool rounds_kernels; /* gradients by these may be rounded to 16 bits before they are added */
    double roundings;    /* to 16 bits on a device of such a type, beside that of the output */
    const char *parameters[MAX_PARAMETERS];
    const int64_t (*sweep)[MAX_PARAMETERS]; /* cases tried every time */
    int sweep_count;
    void (*draw)(struct check *c, int64_t *p); /* makes one more, at random */
    const int64_t (*bench)[MAX_PARAMETERS];    /* of the published networks; timed by --bench */
    int bench_count;
    void (*run)(struct check *c, const int64_t *p);
};
#define OP(name)          extern const struct op_test test_##name;
#define OP_TRAINING(name) extern const struct op_test test_##name;
#define OP_BACKWARD(name) extern const struct op_test test_##name##_backward;
#include "kernels/ops.def"
extern const struct op_test *const op_tests[]; /* NULL-terminated */

/* One tensor of a case, the same on both sides. */
struct operand {
    const char *name;
    bool output;
    bool prefilled;           /* an output that is added to or updated: it holds data before */
    int64_t begin, columns;   /* of an output: only these of each row are its own; 0: all */
    const struct operand *of; /* of a gradient: by which operand */
    double magnitude;         /* of an output made of cancelling terms: what it is small beside */
    int64_t count;            /* elements */
    size_t bytes;             /* of them on the device */
    bool misaligned;          /* lies in the device's memory only as its type needs */
    struct tensor *on[SIDES];
    struct tensor *in_double; /* while differences are taken: an F32 input in F64 */
    float *first_result;      /* an output, while the device runs with other threads */
    struct place {
        struct tensor *block; /* the device's own memory, where the CPU cannot guard it */
        uint8_t *map;         /* or a mapping between two guard pages */
        size_t map_bytes;
        uint8_t *start;             /* in map: memory that may be touched, `size` bytes */
        size_t size, before, bytes; /* of it all, before the elements, of the elements */
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
    enum weight_form weight_form; /* where the device wants weights in a form of its own */
    double work_limit;            /* cases of more work are left out; 0: none are */
    bool left_out;
    double tolerance;
    double magnitude; /* what outputs made of cancelling terms are small beside; 0: nothing */
    uint64_t random;  /* state of the case's random numbers */
    struct operand operands[MAX_OPERANDS];
    int operand_count;
    char failure[400];  /* empty: all well */
    double worst_error; /* of cases since it was last cleared: greatest part of the tolerance */

    const struct weights *golden; /* MODE_GOLDEN: where operands come from */
    const char *golden_case;      /* "conv2d/stride2": the prefix of their names */
    enum side judged;             /* which side is held against the golden output */

    bool started; /* of the side being run */
    int threads;  /* while a case runs with another number of them: how many there were */
    struct differences *differences;
    double seconds, begun;
    double samples[64];
    int sample_count, batch, batch_left; /* of runs in a sample */
    double flops, bytes_moved;
    double peak_flops[DTYPE_BF16 + 1], peak_bytes; /* of the device, a second; 0: not measured */
};

/* The members that are alike in every tests/op/NAME.c: its own sweep, draw, bench and run. */
#define OP_TEST(op)                                                                                \
    .name = #op, .sweep = sweep, .sweep_count = sizeof sweep / sizeof *sweep, .draw = draw,        \
    .bench = bench, .bench_count = sizeof bench / sizeof *bench, .run = run

/* Random numbers of the case: the same for the same seed on any machine. */
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

/* Operands. With a golden file, values are read from it instead of being drawn. */
struct operand *activations(struct check *c, const char *name, enum fill fill, int ndim,
                            const int64_t *shape);
/* The same, but F32 on every device, as what comes from outside is. */
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
/* An F32 vector that the op changes in place; golden files have NAME and NAME.after. */
struct operand *updated(struct check *c, const char *name, double mean, double deviation,
                        int64_t count);
/* An input that ref has computed; released here. */
struct operand *computed(struct check *c, const char *name, struct tensor *value);
/* Normal, but zero where z, what a ReLU gets, is so near to zero that a step of differences may
 * change its sign. z is released here. */
struct operand *gradient_off_kinks(struct check *c, const char *name, struct tensor *z);
/* Gradients by an operand, of its shape: written, or added to what is there. */
struct operand *gradient(struct check *c, const char *name, const struct operand *of);
struct operand *gradient_sum(struct check *c, const char *name, const struct operand *of);
/* By a weight, of ops whose parameter "wanted" is a sum of 2 for it and FRESH if it is written, not
 * added to; NULL without the 2. */
enum { FRESH = 8 };
struct operand *gradient_of_weight(struct check *c, const char *name, const struct operand *of,
                                   int64_t wanted);
/* An activation's gradient in which some elements, that are not the op's, lie between. */
struct operand *gradient_between(struct check *c, const char *name, const struct operand *of);
/* Written in some columns of each row; the others must stay as they are. */
struct operand *gradient_columns(struct check *c, const char *name, const struct operand *of,
                                 int64_t begin, int64_t columns);
/* Of this type on both sides, whatever is being tried. */
struct operand *input_typed(struct check *c, const char *name, enum dtype dtype, int ndim,
                            const int64_t *shape, const void *values);
struct operand *output_typed(struct check *c, const char *name, enum dtype dtype, int ndim,
                             const int64_t *shape);

/* What a case of the backward direction needs of the forward one is computed by ref, but when
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

/* Calls both backends' op directly: RUN(c, add, on(a, side), on(b, side), on(y, side)); `side` is
 * the variable that the arguments are written with. The device runs again with another number of
 * threads, which must give the same bits. When timing, ref is left out and the device runs again
 * and again. */
#define RUN(c, op, ...)                                                                            \
    for (enum side side = REF; side < SIDES; side++)                                               \
        for (struct op##_args args_ = {__VA_ARGS__}; run_again(c, side);)                          \
    (c)->device[side]->backend->op((c)->device[side], &args_)
bool run_again(struct check *c, enum side side);

/* Judges the case: inputs and surroundings untouched, every output element written, finite and near
 * to ref's (or the golden one). `result` is what the public op returned on the device for the same
 * inputs: it must agree too; released here. NULL: no public op gives these args. */
void finish(struct check *c, struct tensor *result);
/* Slice i of the batch alone must give the bits that it gave in y with its batch. `result` is what
 * the public op returned for it; released here. */
void finish_alone(struct check *c, const struct operand *y, int64_t i, struct tensor *result);
/* Holds ref's gradients against differences of its own forward direction in double, in random
 * directions and by single elements, once the outputs of RUN have been judged:
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
/* The work of one run, for rates: floating point operations and bytes read and written. */
void work(struct check *c, double flops, double bytes);

/* Fails the case unless the device left the operand's elements as they were. */
void check_unchanged(struct check *c, const struct operand *o);

void check_failure(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Runs one case from its seed; false and c->failure when it failed. */
bool check_case(struct check *c, const int64_t *p, uint64_t seed);
/* A case's parameters, "n=1 h=5": writes and reads them. */
void describe(char *text, size_t size, const struct op_test *test, const int64_t *p);
bool parse_parameters(const struct op_test *test, const char *text, int64_t *p);

/* Results that PyTorch computed (tests/op/golden/make-goldens.py); a TAP line for each case and
 * side. only_op may be NULL. */
void check_goldens(struct check *c, const char *path, const char *only_op);
/* The golden case's operand; dies when the file has none of that size. */
const struct weight *golden_operand(const struct check *c, const char *name, int64_t count);

/* Of a device of which that is not known: a large matrix product of each type, a large sum. */
void measure_peaks(struct check *c);

/* Asserts that broken kernels are caught: each a TAP line. */
void check_broken_kernels(const struct check *c);
void check_broken_backward_kernels(const struct check *c);
/* A fault in the calling thread while this is armed ends check_case with a failure. */
extern volatile bool fault_expected;

#endif
