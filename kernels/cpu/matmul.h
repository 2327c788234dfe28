#ifndef CCLD_KERNELS_CPU_MATMUL_H
#define CCLD_KERNELS_CPU_MATMUL_H

#include <stdint.h>

#include "kernels/cpu/isa.h"
#include "kernels/device.h"

static inline int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t round_up(int64_t n, int64_t to)
{
    return divide_up(n, to) * to;
}

/* The next `bytes` bytes of scratch memory, which may be NULL while they are only counted. */
static inline void *take_scratch(char *memory, size_t *used, size_t bytes)
{
    void *here = memory ? memory + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return here;
}

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* c[m][n] = act(bias[n] + sum over tap, channel of row m under tap [channel] *
 * weight[n][channel][tap]).
 * A function finds the rows of the left side, so that a convolution is the same product over
 * shifted rows of its input, without a copy. Weights are packed block by block as needed and never
 * kept: a checkpoint is used where it is mapped. The order of summation depends neither on m nor on
 * the number of threads.
 * Rows of BF16 (matmul_bf16.c) are multiplied with weights rounded to BF16. */
struct matmul {
    int64_t rows, columns, channels;
    int taps;
    /* a[tap*stride + i] = the channels of row m + i under tap, or NULL if they are all zero,
     * for i < count. */
    void (*find_rows)(const void *context, int64_t m, int count, const void **a, int stride);
    const void *context;
    enum dtype dtype; /* of rows and of c: F32 or BF16 */
    bool even_rows;   /* a zero follows each row if channels is odd */
    enum dtype weight_dtype;
    const void *weight; /* [columns][channels][taps] */
    bool weight_rows;   /* weight is F32 [channels][columns] instead; taps = 1 */
    const float *bias;  /* may be NULL */
    enum activation_kind act;
    void *c;
    int64_t ldc;
    const void *residual; /* of BF16: added to c, shaped like it, and may be c; or NULL */
};
void matmul(struct device *d, const struct matmul *m);
size_t matmul_bytes(const struct matmul *m); /* scratch */

/* The parts of matmul() and matmul_bytes() for BF16. */
void matmul_bf16(struct device *d, const struct matmul *m);
size_t matmul_bf16_bytes(const struct matmul *m);

/* How a product is divided into units of work, which threads take in any order. */
struct matmul_units {
    int64_t columns, column_units; /* per unit, and how many units lie side by side */
    int64_t rows, row_units;
    int64_t channels; /* of a block that is packed at once */
};
#define UNIT_PANELS 2 /* panels per unit of work, which share each row of the left side */
struct matmul_units matmul_units(const struct matmul *m, const struct cpu_isa *isa);

/* Packs count rows of `columns` floats, ld apart, as a tile's b with rows of `width` floats, padded
 * with zeros. */
void pack_rows(float *dst, int width, const float *src, int64_t ld, int64_t count, int columns);

/* The find_rows of a plain matrix; context is a struct dense_rows, taps is 1. */
struct dense_rows {
    const void *data;
    int64_t ld;
    enum dtype dtype;
};
void find_dense_rows(const void *context, int64_t m, int count, const void **a, int stride);

/* c[i][j] += sum over k of a[k][i] * b[k][j], i < rows, j < columns: gradients of weights. Both
 * sides are stored like activations; BF16 is widened. The order of summation does not depend on the
 * number of threads. */
void matmul_outer(struct device *d, int64_t rows, int64_t columns, int64_t k, struct dense_rows a,
                  struct dense_rows b, float *c, int64_t ldc);
size_t matmul_outer_bytes(void); /* scratch */

/* c[i][j][tap] += sum over k of a[k][i] * b[k][j] for the row of b under that tap: the gradients of
 * a kernel, by products of BF16, which the processor must have. */
struct matmul_outer_bf16 {
    int64_t rows, columns, k;
    int taps;
    const uint16_t *a; /* rows of lda */
    int64_t lda;
    void (*find_rows)(const void *context, int64_t k, int count, const void **b, int stride);
    const void *context;
    float *c;
    bool fresh; /* c is overwritten instead */
};
void matmul_outer_bf16(struct device *d, const struct matmul_outer_bf16 *m);
size_t matmul_outer_bf16_bytes(int64_t rows, int64_t columns, int64_t k, int taps); /* scratch */

/* How `columns` are split into tiles: widths in vectors, as even as possible. */
struct panel {
    int64_t column;
    int columns; /* without padding */
    int vectors;
};
static inline int panels_count(const struct cpu_isa *isa, int64_t columns)
{
    return (int)divide_up(divide_up(columns, isa->lanes), isa->vectors);
}
int panels_cut(const struct cpu_isa *isa, int64_t begin, int64_t columns, struct panel *out,
               int max);

/* The rows m0 .. m1 of a unit, and its columns n0 .. n1, cut into panels. */
struct matmul_unit {
    int64_t m0, m1, n0, n1;
    struct panel panels[UNIT_PANELS];
    int count;
};
struct matmul_unit matmul_unit(const struct matmul *m, const struct matmul_units *u, int64_t unit);
/* Packs `channels` channels of a panel's weights from c0 on as floats, as a tile's b. converted:
 * room for as many floats, if the weights are not F32. */
void matmul_pack(const struct matmul *m, const struct panel *p, int64_t c0, int64_t channels,
                 float *packed, float *converted);

/* Returns count rows of `length` weights from row `first`, ld apart, as floats: a pointer into the
 * source, or scratch[count][length] after conversion. *ld_out: floats between the returned rows. */
const float *weights_as_f32(enum dtype dtype, const void *weight, int64_t first, int count,
                            int64_t ld, int64_t offset, int64_t length, float *scratch,
                            int64_t *ld_out);

#endif
