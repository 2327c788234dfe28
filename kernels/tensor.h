#ifndef CCLD_KERNELS_TENSOR_H
#define CCLD_KERNELS_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/dtype.h"

struct device;

#define TENSOR_MAX_DIMS 4

/* A dense, row-major array on one device. Between ops, images are [n, h, w, c] (channels last) and
 * sequences [n, s, d]; weights keep the checkpoint's shape and order, e.g. [co, ci, kh, kw].
 *
 * Ownership is by reference counting. An op returns a tensor with one reference, owned by the
 * caller, and leaves the caller's references to its inputs alone; tensor_release drops one. A
 * recording tape holds references, too. */
struct tensor;

/* Collects the gradient of a scalar with respect to a tensor. May outlive the tensor's data. */
struct gradient {
    int references;
    struct tensor *value; /* NULL: no gradient yet */
    bool parameter;       /* value is the caller's memory: added to, never replaced */
    int uses;             /* records of tapes in which it is an input */
    int64_t pass;         /* of a parameter: the last backward pass that overwrote it */
    bool columns;         /* value is written column by column (group_norm's modulation) */
};

struct tensor {
    struct device *device;
    enum dtype dtype;
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    void *data;
    size_t bytes; /* of the block behind data, if it is from the device's pool */
    int references;
    bool borrowed;       /* data is owned elsewhere (a mapped file, the caller) */
    bool channels_last;  /* of a kernel [co, ci, kh, kw]: stored as [co, kh, kw, ci] */
    struct tensor *base; /* of a view: the tensor that owns the data; holds a reference */
    struct tensor
        *working; /* of a weight: the copy the device computes with, or NULL (kernels/weight.h) */
    struct gradient *gradient; /* NULL: not computed */
};

int64_t tensor_count(const struct tensor *t); /* elements */
int64_t tensor_rows(const struct tensor *t);  /* product of all dimensions but the last */
static inline int64_t tensor_last(const struct tensor *t)
{
    return t->shape[t->ndim - 1];
}
bool tensor_same_shape(const struct tensor *a, const struct tensor *b);

/* Uninitialized memory from the device's pool. */
struct tensor *tensor_new(struct device *d, enum dtype dtype, int ndim, const int64_t *shape);
/* A tensor over device memory that must outlive it; nothing is copied. */
struct tensor *tensor_borrow(struct device *d, enum dtype dtype, int ndim, const int64_t *shape,
                             const void *data);
/* A view of the same elements with another shape of equal count. */
struct tensor *tensor_reshape(struct tensor *t, int ndim, const int64_t *shape);
/* A view of rows begin .. begin+count of the first dimension. */
struct tensor *tensor_slice(struct tensor *t, int64_t begin, int64_t count);

struct tensor *tensor_retain(struct tensor *t);
void tensor_release(struct tensor *t); /* t may be NULL */
/* Releases *slot and stores `with` there: `tensor_replace(&h, relu(tape, h))`. */
void tensor_replace(struct tensor **slot, struct tensor *with);

/* Requests the gradient of an input, a tensor that no op returned. tape_backward leaves it in
 * t->gradient->value. */
void tensor_require_gradient(struct tensor *t);
/* The same for a parameter, whose gradients are added to `gradient`: F32, of t's shape. */
void tensor_set_parameter(struct tensor *t, struct tensor *gradient);
struct gradient *gradient_retain(struct gradient *g); /* g may be NULL, in both */
void gradient_release(struct gradient *g);

/* Copies host memory of t's type to t. May return before the data arrive, but src may be reused. */
void tensor_upload(struct tensor *t, const void *src);
/* F32 host memory to a new tensor, and a tensor of any float type to F32 host memory. */
struct tensor *tensor_from_f32(struct device *d, int ndim, const int64_t *shape, const float *src);
void tensor_to_f32(const struct tensor *t, float *dst);
float *tensor_to_host(const struct tensor *t); /* the same; the caller frees the result */

/* Shorthand for shapes: tensor_new(d, DTYPE_F32, DIMS(n, h, w, c)). */
#define DIMS(...)                                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[])                   \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

#endif
