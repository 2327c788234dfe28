#ifndef CCLD_KERNELS_CPU_MATMUL_H
#define CCLD_KERNELS_CPU_MATMUL_H

#include <stdint.h>

#include "kernels/cpu/isa.h"
#include "kernels/device.h"

/* c[m][n] = act(bias[n] + sum over tap, channel of row(m, tap)[channel] * weight[n][channel][tap]).
 * The rows of the left side are found through a function, so that a convolution is the same product
 * over shifted rows of its input, without a copy. Weights are packed block by block as they are
 * needed and never kept: a checkpoint is used where it is mapped. The order of summation does not
 * depend on m, nor on the number of threads. */
struct matmul {
    int64_t rows, columns, channels;
    int taps;
    /* First channel of row m under tap, or NULL where it is all zeros. */
    const float *(*row)(const void *context, int64_t m, int tap);
    const void *context;
    enum dtype weight_dtype;
    const void *weight; /* [columns][channels][taps] */
    const float *bias;  /* may be NULL */
    enum activation_kind act;
    float *c;
    int64_t ldc;
};
void matmul(struct device *d, const struct matmul *m);

/* How `columns` are cut into tiles: widths in vectors, as even as possible. */
struct panel {
    int64_t column;
    int columns; /* real ones */
    int vectors;
};
int panels_cut(const struct cpu_isa *isa, int64_t begin, int64_t columns, struct panel *out,
               int max);

/* count rows of `length` weights from row `first`, ld apart, as floats: points into the source, or
 * converts to scratch[count][length]. *ld_out: floats between the rows returned. */
const float *weights_as_f32(enum dtype dtype, const void *weight, int64_t first, int count,
                            int64_t ld, int64_t offset, int64_t length, float *scratch,
                            int64_t *ld_out);

#endif
