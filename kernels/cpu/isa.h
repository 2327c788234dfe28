#ifndef CCLD_KERNELS_CPU_ISA_H
#define CCLD_KERNELS_CPU_ISA_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "kernels/training.h"

/* The inner loops of the CPU backend. isa_template.h is compiled once per instruction set and
 * yields one of these tables each time; cpu_isa() returns the best one that this processor
 * supports. */

#define ISA_MAX_ROWS       8  /* rows of a matrix-product tile */
#define ISA_MAX_VECTORS    3  /* vectors across a tile */
#define ISA_MAX_LANES      16 /* floats per vector */
#define ISA_MAX_COLUMNS    (ISA_MAX_VECTORS * ISA_MAX_LANES)
#define ISA_PAIRED_COLUMNS 128

/* Winograd F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * arXiv 1509.09308): 4x4 outputs from 6x6 inputs with 36 products instead of 144. */
#define WINOGRAD_OUT       4
#define WINOGRAD_IN        6
#define WINOGRAD_POSITIONS 36

struct cpu_isa {
    const char *name;
    int lanes;   /* floats per vector */
    int rows;    /* rows of a tile */
    int vectors; /* maximum number of vectors across a tile */

    /* c[i][0 .. vectors*lanes) = start + sum over tap, k of a[tap*rows + i][k] * b[tap][k][...] for
     * i in [0, rows). start: `init` (one vector row for all i), or what c holds when it is NULL.
     * ldc: floats between rows of c. */
    void (*tile)(int vectors, int taps, const float *const *a, int64_t k, const float *b, float *c,
                 int64_t ldc, const float *init);
    /* The same for half as many rows. */
    void (*half_tile)(int vectors, int taps, const float *const *a, int64_t k, const float *b,
                      float *c, int64_t ldc, const float *init);

    /* tile() with arbitrary strides on the left side, element (i, k) at a[i*a_row + k*a_step],
     * one tap. The rows read are all of [0, rows). accumulate: start from what c holds, else from
     * 0. */
    void (*tile_strided)(int vectors, const float *a, int64_t a_row, int64_t a_step, int64_t k,
                         const float *b, float *c, int64_t ldc, bool accumulate);

    /* Transposes src[rows][columns] (rows ld apart) for a tile's b: column j goes to
     * dst[order(j)*width ...], row i at offset i; rows .. width are zeros. With taps = 1 order(j) =
     * j; else j = channel*taps + tap, as convolution weights lie, goes to tap*(columns/taps) +
     * channel. width is a multiple of lanes. */
    void (*pack)(float *dst, int width, const float *src, int64_t ld, int rows, int64_t columns,
                 int taps);

    /* y[m][o] = bias[o] + x[m] . w[o] for m < rows, o < columns: few rows, weights of F32 or BF16
     * read once. */
    void (*dot)(float *y, int64_t ldy, const float *x, int64_t ldx, int rows, enum dtype dtype,
                const void *w, int64_t ldw, int columns, int64_t k, const float *bias);

    /* n numbers of F16 or BF16 as floats, and floats as BF16, rounded to nearest even. */
    void (*widen)(float *dst, enum dtype dtype, const void *src, size_t n);
    void (*narrow)(void *dst, const float *src, size_t n);
    void (*round_to_bf16)(float *x, size_t n); /* in place, a multiple of lanes */
    /* A tile's b, k rows of `width` floats, as cpu_tile_bf16 takes it: rounded, rows 2i and 2i + 1
     * interleaved; a row of zeros follows an odd k. */
    void (*pair)(uint16_t *dst, const float *src, int width, int64_t k);

    /* One 6x6 patch (36 pointers to `channels` numbers, F32 or BF16) to 36 vectors, position p at
     * dst[p*stride]. */
    void (*winograd_input)(float *dst, int64_t stride, enum dtype dtype, const void *const *pixels,
                           int64_t channels);
    /* g: [channels][9][lanes] as pack() with taps = 1 leaves it; u: position p, channel i at
     * u[p*stride + i*width]. */
    void (*winograd_weight)(float *u, int64_t stride, int width, const float *g, int64_t channels);
    /* 36 products (p at m[p*stride]) to 16 pixels of `channels` floats; NULL pixels are skipped. */
    void (*winograd_output)(float *const *pixels, const float *m, int64_t stride, int64_t channels,
                            const float *bias);

    /* The backward pass: from the gradients of 16 output pixels (NULL: zeros) to those of 36
     * products, and from the gradients of 36 transformed weights (p at u[p*stride], lanes of them)
     * to those of 9 weights. */
    void (*winograd_output_backward)(float *dst, int64_t stride, enum dtype dtype,
                                     const void *const *pixels, int64_t channels);
    void (*winograd_weight_backward)(float *g, const float *u, int64_t stride);

    /* Sum and sum of squares of x - center over n floats: short partial sums, added in double.
     */
    void (*moments)(const float *x, int64_t n, float center, double *sum, double *sum_squares);
    /* The same per channel over pixels of c floats, added to sum[c] and sum_squares[c]. */
    void (*channel_moments)(const float *x, int64_t pixels, int64_t c, const float *center,
                            double *sum, double *sum_squares);
    /* y[i] = act((x[i] - center[i]) * scale[i] + shift[i]): the difference is exact if x is
     * near center, so near-constant inputs keep their digits. */
    void (*normalize)(float *y, const float *x, const float *center, const float *scale,
                      const float *shift, int64_t n, enum activation_kind act);
    /* y[i] = ((x[i] - center) * scale + shift) * gamma[i] + beta[i] */
    void (*normalize_row)(float *y, const float *x, float center, float scale, float shift,
                          const float *gamma, const float *beta, int64_t n);
    /* dz = dy * act'(z) for normalize's z, over pixels of c floats; adds dz to p[c] and
     * dz * (x - center) to q[c]. */
    void (*normalize_sums)(const float *x, const float *dy, int64_t pixels, int64_t c,
                           const float *center, const float *scale, const float *shift,
                           enum activation_kind act, double *p, double *q);
    /* dx[i] = dz[i]*by_dz[i] - constant[i] - (x[i] - center[i])*by_x[i] */
    void (*normalize_backward)(float *dx, const float *x, const float *dy, const float *center,
                               const float *scale, const float *shift, const float *by_dz,
                               const float *constant, const float *by_x, int64_t n,
                               enum activation_kind act);
    /* Layer norm's backward pass over a row, t = (x - center - shift)*inverse and g = gamma*dy:
     * sums of g and g*t, dy*t and dy are added to by_gamma and by_beta; dx = (g - mean_g -
     * t*mean_gt) * inverse. */
    void (*row_gradient_sums)(const float *x, const float *dy, const float *gamma, int64_t n,
                              float center, float shift, float inverse, double *by_gamma,
                              double *by_beta, double *sum_g, double *sum_gt);
    void (*row_gradient)(float *dx, const float *x, const float *dy, const float *gamma, int64_t n,
                         float center, float shift, float inverse, float mean_g, float mean_gt);
    void (*activation)(float *y, const float *x, int64_t n, enum activation_kind act);
    void (*activation_backward)(float *dx, const float *x, const float *dy, int64_t n,
                                enum activation_kind act);
    /* In place: x = exp(x*scale - max) / sum */
    void (*softmax)(float *x, int64_t n, float scale);
    void (*add)(float *y, const float *a, const float *b, int64_t n);
    /* In place: dp = p * (dp - sum of p*dp) * scale */
    void (*softmax_backward)(float *dp, const float *p, int64_t n, float scale);
    void (*adamw)(const struct adamw_args *a, int64_t begin, int64_t end);
    void (*moving_average)(const struct moving_average_args *a, int64_t begin, int64_t end);
    double (*sum_squares)(const float *x, int64_t n);
    /* y = sum of coefficients[i] * x[i] */
    void (*combine)(float *y, int count, const float *const *x, const float *coefficients,
                    int64_t n);
};

extern const struct cpu_isa cpu_isa_generic;
#if defined(__x86_64__)
extern const struct cpu_isa cpu_isa_avx2, cpu_isa_avx512;
#endif

/* For tests, $CCLD_CPU (generic, avx2, avx512, avx512-bf16) selects an older instruction set. */
const struct cpu_isa *cpu_isa(void);

/* Products of BF16, accumulated in F32, on processors that have them; sizes are cpu_isa()'s. */
struct cpu_bf16 {
    const char *name;
    /* cpu_isa()'s `tile` for an even k. */
    void (*tile)(int vectors, int taps, const uint16_t *const *a, int64_t k, const uint16_t *b,
                 float *c, int64_t ldc, const float *init);
    /* A tile's b from k rows, of which `columns` elements from `first` on are taken, padded with
     * zeros to width, a multiple of lanes, at most ISA_PAIRED_COLUMNS. A row that is NULL is zero,
     * as is one after an odd k. */
    void (*pair_rows)(uint16_t *dst, const void *const *rows, int64_t k, int64_t first, int columns,
                      int width);
    /* n floats times scale as BF16, rounded to nearest even; subnormal ones become zero. */
    void (*narrow)(uint16_t *dst, const float *src, int64_t n, float scale);
    /* dst[i] = exp((x[i] - max)*scale) for scale > 0; returns the sum of what was written. */
    float (*exponentials)(uint16_t *dst, const float *x, int64_t n, float scale);
    /* Winograd F(2x2, 3x3), whose error is about that of two more roundings: one 4x4 patch to 16
     * vectors, padded with zeros to whole vectors; weights from what cpu_isa()'s `pack` leaves, in
     * pairs of channels, position p, pair i at u[p*stride + 2*i*width]; 16 products to 4 pixels,
     * plus those of residual, which may be NULL. */
    void (*winograd_input)(uint16_t *dst, int64_t stride, const uint16_t *const *pixels,
                           int64_t channels);
    void (*winograd_weight)(uint16_t *u, int64_t stride, int width, const float *g,
                            int64_t channels);
    /* The same from weights of BF16 that were packed as they lie, in pairs; channels is even. */
    void (*winograd_weight_pairs)(uint16_t *u, int64_t stride, int width, const float *g,
                                  int64_t channels);
    void (*winograd_output)(uint16_t *const *pixels, const float *m, int64_t stride,
                            int64_t channels, const float *bias, const uint16_t *const *residual);
};
#define WINOGRAD_BF16_OUT       2
#define WINOGRAD_BF16_POSITIONS 16

#if defined(__x86_64__)
extern const struct cpu_bf16 cpu_bf16_avx512;
/* Its tile on processors that have AMX; the system must have allowed it to the process. */
void cpu_amx_tile(int vectors, int taps, const uint16_t *const *a, int64_t k, const uint16_t *b,
                  float *c, int64_t ldc, const float *init);
#endif
/* NULL: the processor has none, or multiplies widened numbers faster. */
const struct cpu_bf16 *cpu_bf16(void);

#endif
