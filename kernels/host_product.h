#ifndef CCLD_KERNELS_HOST_PRODUCT_H
#define CCLD_KERNELS_HOST_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

/* Products of double matrices in host memory. The result is the same to the bit with any number of
 * threads. */

/* c = scale * A B, or, with add, c += scale * A B. A is [m, k], B is [k, n]; a transposed one is
 * stored as [k, m] or [n, k]. c: [m, n]; must not overlap a or b. */
struct host_product {
    int64_t m, n, k;
    const double *a, *b;
    bool a_transposed, b_transposed, add;
    double scale;
    double *c;
};
void host_product(const struct host_product *p);

#endif
