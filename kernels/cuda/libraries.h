#ifndef CCLD_KERNELS_CUDA_LIBRARIES_H
#define CCLD_KERNELS_CUDA_LIBRARIES_H

/* Matrix products and convolutions by NVIDIA's libraries: cublaslt.cu and cudnn*.cu. Builds for the
 * emulator use loops instead. All accumulate in F32; F32 operands are rounded to TF32 only if
 * d->tf32. All work runs in d's stream and may be recorded. The first call with a shape chooses the
 * fastest algorithm among those that give the same bits in every run. Choices are stored on disk
 * (plan_cache.h): another choice would mean another order of summation, and a resumed run must give
 * the same bytes as one that was never interrupted. If nothing can be stored, and while work is
 * recorded, the library's first proposal is used, untimed. */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "kernels/device.h"

struct library_plans *
library_plans_new(struct device *d); /* needs d->state; ends the program on failure */
void library_plans_free(struct library_plans *p);

/* c [rows, columns] = a * b + beta * c, or + addend (+ bias along columns, then ReLU). Row-major;
 * ld_*: elements between rows in memory. a is [rows, inner], or [inner, rows] with transpose_a; b
 * is [inner, columns], or [columns, inner] with transpose_b. */
struct matrix_product {
    int64_t rows, columns, inner;
    enum dtype type, c_type; /* of a and b; of c: `type` or F32 */
    const void *a, *b;
    void *c;
    int64_t ld_a, ld_b, ld_c;
    bool transpose_a, transpose_b;
    float beta;                /* 0: c is overwritten */
    const void *addend;        /* like c, read in its place with beta 1; or NULL */
    const struct tensor *bias; /* [columns] F32, or NULL; its working copy may be used */
    bool relu;
    float *a_sums; /* [rows], overwritten with the sums of a's columns; with transpose_a; or NULL */
};
#define MATRIX_BIAS_ALIGNMENT      256 /* bytes; a bias elsewhere is copied first */
#define CONVOLUTION_BIAS_ALIGNMENT 16
void matrix_product(struct device *d, const struct matrix_product *p);

/* Of images [n, h, w, c] and kernels [co, kh, kw, ci], all of `type`. */
struct convolution {
    enum dtype type;
    int64_t n, h, w, ci, oh, ow, co, kh, kw;
    int stride, pad_begin, pad_end;
};
/* bias: as in matrix_product, [co]. residual: added, like y; or NULL. */
void convolution_forward(struct device *d, const struct convolution *c, const void *x,
                         const void *weight, const struct tensor *bias, const void *residual,
                         void *y);
void convolution_backward_data(struct device *d, const struct convolution *c, const void *dy,
                               const void *weight, void *dx, bool adds); /* to dx */
/* dweight: [co, kh, kw, ci] of `type`; overwritten. */
void convolution_backward_weight(struct device *d, const struct convolution *c, const void *x,
                                 const void *dy, void *dweight);

#ifdef __cplusplus
}
#endif
#endif
