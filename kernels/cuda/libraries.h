#ifndef CCLD_KERNELS_CUDA_LIBRARIES_H
#define CCLD_KERNELS_CUDA_LIBRARIES_H

/* Matrix products and convolutions, which NVIDIA's libraries do: cublaslt.cu and cudnn*.cu. A build
 * that runs on the emulator has loops instead. All accumulate in F32; F32 operands are used as they
 * are unless d->tf32. Everything is put into d's stream and may be recorded. The first call of a
 * shape chooses how it is done: of what gives the same bits from run to run, the fastest. Choices
 * are remembered on disk (plan_cache.h), since another choice would be another order of summation,
 * and a run that is resumed must give the bytes of one that never stopped. Where nothing can be
 * remembered, and while work is recorded, it is the library's first proposal, untimed. */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/device.h"

struct library_plans *
library_plans_new(struct device *d); /* d->state is there; dies where it cannot */
void library_plans_free(struct library_plans *p);

/* c [rows, columns] = a * b + beta * c (+ bias along columns, then ReLU). Row-major; ld_*: elements
 * between rows as they lie in memory. a is [rows, inner], or [inner, rows] when transpose_a; b is
 * [inner, columns], or [columns, inner] when transpose_b. */
struct matrix_product {
    int64_t rows, columns, inner;
    enum dtype type, c_type; /* of a and b; of c: `type` or F32 */
    const void *a, *b;
    void *c;
    int64_t ld_a, ld_b, ld_c;
    bool transpose_a, transpose_b;
    float beta;        /* 0: c is only written */
    const float *bias; /* [columns] F32, or NULL */
    bool relu;
};
void matrix_product(struct device *d, const struct matrix_product *p);

/* Of pictures [n, h, w, c] and kernels [co, kh, kw, ci], all of `type`. */
struct convolution {
    enum dtype type;
    int64_t n, h, w, ci, oh, ow, co, kh, kw;
    int stride, pad_begin, pad_end;
};
/* bias: [co] F32, or NULL. */
void convolution_forward(struct device *d, const struct convolution *c, const void *x,
                         const void *weight, const float *bias, void *y);
void convolution_backward_data(struct device *d, const struct convolution *c, const void *dy,
                               const void *weight, void *dx);
/* dweight: [co, kh, kw, ci] of `type`; written, not added to. */
void convolution_backward_weight(struct device *d, const struct convolution *c, const void *x,
                                 const void *dy, void *dweight);

#ifdef __cplusplus
}
#endif
#endif
