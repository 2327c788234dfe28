#ifndef CCLD_SCORE_SYMMETRIC_H
#define CCLD_SCORE_SYMMETRIC_H

#include <stdint.h>

/* Symmetric matrices in double precision, row-major, both triangles stored. */

/* Eigenvalues of a [n, n], in no particular order, by Householder reflections to tridiagonal form
 * and the implicit QL method (Golub and Van Loan, Matrix Computations, 8.3). Overwrites a. They are
 * exact to a few times n * 2^-52 of the largest one. */
void symmetric_eigenvalues(double *values, double *a, int64_t n);

/* Factors a, positive semidefinite, into L L^T by Cholesky's method with diagonal pivoting
 * (Higham, Accuracy and Stability of Numerical Algorithms, 10.3). Stores L [n, n], whose columns
 * from the returned rank on are zero; the rank ends where rounding errors begin. Overwrites a. */
int64_t symmetric_factor(double *l, double *a, int64_t n);

#endif
