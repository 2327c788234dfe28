#ifndef CCLD_KERNELS_CPU_COLUMN_SUMS_H
#define CCLD_KERNELS_CPU_COLUMN_SUMS_H

#include "kernels/device.h"

/* sums[j] += sum over rows of x[rows][columns]: gradients of biases. columns is x's last dimension.
 */
void cpu_column_sums(struct device *d, float *sums, const struct tensor *x);

#endif
