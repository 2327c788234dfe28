#ifndef CCLD_TRAIN_HOST_PRODUCT_H
#define CCLD_TRAIN_HOST_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

/* Products of matrices of doubles in host memory, for losses that are computed there. The same bits
 * on any number of threads. */

/* c = scale * A B, or added to c. A: [m, k], given as a; transposed: a holds [k, m]. B: [k, n],
 * likewise. c: [m, n], no part of a or b. */
struct host_product {
    int64_t m, n, k;
    const double *a, *b;
    bool a_transposed, b_transposed, add;
    double scale;
    double *c;
};
void host_product(const struct host_product *p);

#endif
