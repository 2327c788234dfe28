#ifndef CCLD_TRAIN_MUON_H
#define CCLD_TRAIN_MUON_H

#include <stdint.h>

#include "common/train/collective.h"
#include "common/train/parameters.h"

/* Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): a kernel changes not by the
 * average of its gradients but by the orthogonal matrix nearest to it, in which no direction is
 * larger than another. It applies to a U-Net's kernels (parameters_kernels_first), as matrices of
 * [output channels, all else]:
 *
 *   m = 0.95 m + 0.05 g
 *   n = 0.95 m + 0.05 g, Nesterov's momentum
 *   step = 0.5 sqrt(max(rows, columns)) * orthogonal(n)
 *
 * The root, of Liu et al. (arXiv 2502.16982), makes an element's step as long in kernels of any
 * shape. With their 0.2 for 0.5 it is as long as AdamW's; a small U-Net learned faster with 0.5.
 *
 * orthogonal(n) is five steps of Newton and Schulz's iteration with Jordan's coefficients, after
 * which singular values lie within 0.7 and 1.2. It is computed from the smaller of n n' and n' n,
 * which takes two products with n instead of ten.
 *
 * Each shard keeps the momentum of its slices, in place of Adam's first moment, and orthogonalizes
 * some of the kernels. No result depends on how many there are. */
struct muon;

/* p must have been placed among c's ranks with its kernels first, and outlive the result, as must
 * c. */
struct muon *muon_new(struct parameters *p, struct collective *c);
void muon_free(struct muon *m); /* NULL is fine */

/* Adds gradient_scale * gradient to the momentum. Returns the steps in device memory: elements
 * [0, p->kernel_elements) of the whole array. They take the place of the gradients, of one rank or
 * of micro-batches, until the next backward pass. */
const float *muon_steps(struct muon *m, double gradient_scale);

#endif
