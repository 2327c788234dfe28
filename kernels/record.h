#ifndef CCLD_KERNELS_RECORD_H
#define CCLD_KERNELS_RECORD_H

#include "kernels/tape.h"

/* A tape's record of one op call, written by ops.c and replayed by backward.c. */

#define RECORD_KEEPS  6
#define RECORD_INPUTS LINEAR_COMBINATION_MAX

struct record {
    /* Computes the inputs' gradients from dy, the output's. */
    void (*backward)(struct tape *t, struct record *r, struct tensor *dy);
    struct gradient *output, *inputs[RECORD_INPUTS]; /* NULL: not computed */
    struct tensor *keep[RECORD_KEEPS];               /* held because `forward` points to them */
    enum dtype dtype;                                /* of the first input */
    int ndim;                                        /* of the first input */
    int64_t shape[TENSOR_MAX_DIMS], last[2];         /* last: last dimensions of concat's inputs */
    tape_function *function;                         /* of a recomputed call, with its context */
    const void *context;
    union {
        struct conv2d_args conv2d;
        struct linear_args linear;
        struct group_norm_args group_norm;
        struct layer_norm_args layer_norm;
        struct attention_args attention;
        struct activation_args activation;
        struct embedding_args embedding;
        struct l2_normalize_args l2_normalize;
        struct take_row_args take_row;
        struct max_pool2x2_args max_pool2x2;
        struct feature_distance_args feature_distance;
        struct to_nhwc_args to_nhwc;
        struct linear_combination_args linear_combination;
    } forward;
    float scale[4];         /* to_nhwc's, copied */
    bool has_bias_gradient; /* of conv2d: another record's pass has summed it */
};

/* Returns a new record for y and requests y's gradient, or NULL if the tape does not record or no
 * input needs a gradient. inputs: tensors or NULL; the first one gives ndim and shape. */
struct record *record_new(struct tape *t, struct tensor *y,
                          void (*backward)(struct tape *, struct record *, struct tensor *),
                          int input_count, struct tensor *const *inputs);
/* Holds a tensor's data until the record is dropped; x may be NULL. */
void record_keep(struct record *r, struct tensor *x);

#define OP(name) void backward_##name(struct tape *t, struct record *r, struct tensor *dy);
#include "kernels/ops.def"
void backward_reshape(struct tape *t, struct record *r, struct tensor *dy);
void backward_attention_qkv(struct tape *t, struct record *r, struct tensor *dy);

/* Adds g to slot's gradient; takes over the reference to g. */
void gradient_add(struct tape *t, struct gradient *slot, struct tensor *g);

#endif
