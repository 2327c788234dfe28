#ifndef CCLD_TESTS_OP_WORK_H
#define CCLD_TESTS_OP_WORK_H

#include "kernels/backward.h"

/* Floating-point operations of an op: a product and its sum are two. */
double conv2d_flops(const struct conv2d_args *a);
double linear_flops(const struct linear_args *a);
double attention_flops(const struct attention_args *a);

#endif
