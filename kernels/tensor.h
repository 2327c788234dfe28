#ifndef CCLD_KERNELS_TENSOR_H
#define CCLD_KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/dtype.h"

struct device;

#define TENSOR_MAX_DIMS 4

/* A dense, row-major array on one device. Pictures between ops are [n, h, w, c] (channels last),
 * sequences [n, s, d]; weights keep the shapes and order of the checkpoints, e.g. [co, ci, kh, kw].
 *
 * Ownership: counted references. An op returns a tensor with one reference, the caller's, and never
 * takes the caller's references to its inputs; tensor_release gives one back. While a tape records,
 * it holds references of its own. */
struct tensor;

/* Where the gradient of some scalar by a tensor is collected. Outlives the tensor's data. */
struct gradient {
    int references;
    struct tensor *value; /* NULL: nothing has flowed here yet */
    bool parameter;       /* value is the caller's memory, added to and never replaced */
    int64_t pass;         /* of a parameter: the last backward pass that began it anew */
    bool columns;         /* value is written by columns, each once (group_norm's modulation) */
};

struct tensor {
    struct device *device;
    enum dtype dtype;
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    void *data;
    size_t bytes; /* of the block behind data, when it is from the device's pool */
    int references;
    bool borrowed;             /* data belongs to somebody else (a mapped file, the caller) */
    bool channels_last;        /* of a kernel [co, ci, kh, kw]: elements lie as [co, kh, kw, ci] */
    struct tensor *base;       /* of a view: the tensor whose data this shows; holds a reference */
    struct tensor *working;    /* of a weight: a copy as the device computes with it, or NULL
                                  (kernels/weight.h) */
    struct gradient *gradient; /* NULL: none is wanted */
};

int64_t tensor_count(const struct tensor *t); /* elements */
int64_t tensor_rows(const struct tensor *t);  /* product of all dimensions but the last */
static inline int64_t tensor_last(const struct tensor *t)
{
    return t->shape[t->ndim - 1];
}
bool tensor_same_shape(const struct tensor *a, const struct tensor *b);

/* Uninitialised memory from the device's pool. */
struct tensor *tensor_new(struct device *d, enum dtype dtype, int ndim, const int64_t *shape);
/* A tensor over memory of the device that outlives it; nothing is copied. */
struct tensor *tensor_borrow(struct device *d, enum dtype dtype, int ndim, const int64_t *shape,
                             const void *data);
/* The same elements under another shape of equal count. */
struct tensor *tensor_reshape(struct tensor *t, int ndim, const int64_t *shape);
/* Rows begin .. begin+count of the first dimension, as a view. */
struct tensor *tensor_slice(struct tensor *t, int64_t begin, int64_t count);

struct tensor *tensor_retain(struct tensor *t);
void tensor_release(struct tensor *t); /* NULL is fine */
/* Releases *slot and puts `with` there: `tensor_replace(&h, relu(tape, h))`. */
void tensor_replace(struct tensor **slot, struct tensor *with);

/* Asks for the gradient by a tensor that no op made (an input); it is found in t->gradient->value
 * after tape_backward. */
void tensor_require_gradient(struct tensor *t);
/* The same for a parameter: gradients are added to `gradient`, F32 of t's shape. */
void tensor_set_parameter(struct tensor *t, struct tensor *gradient);
struct gradient *gradient_retain(struct gradient *g); /* NULL is fine */
void gradient_release(struct gradient *g);

/* to = from on their device: F32, equally many elements. Runs in the device's order of work, as an
 * op would, but no tape records it. */
void tensor_copy(struct tensor *to, const struct tensor *from);

/* Host memory of the tensor's own type to it; may return before it is there, src may be reused. */
void tensor_upload(struct tensor *t, const void *src);
/* Host memory to and from a tensor of any device; count elements as F32, converting. */
struct tensor *tensor_from_f32(struct device *d, int ndim, const int64_t *shape, const float *src);
void tensor_to_f32(const struct tensor *t, float *dst);

/* Shorthand for shapes: tensor_new(d, DTYPE_F32, DIMS(n, h, w, c)). */
#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

#endif
