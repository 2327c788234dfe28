#ifndef CCLD_TESTS_SUBJECT_H
#define CCLD_TESTS_SUBJECT_H

#include <stdbool.h>

#include "kernels/device.h"

/* The devices that tests of networks run on: the CPU and the plain kernels of ref, or only the
 * device that the environment names:
 *   CCLD_DEVICE      cuda, cuda:N, cpu (with a precision), ref
 *   CCLD_PRECISION   fp32 (the default here), bf16, fp16
 *   CCLD_TEST_SMALL  skip tests that take too long on an emulated GPU
 *   CCLD_EXPECT_GPU  a skipped test fails (tap_skip) */
const char *const *subject_devices(void); /* NULL-terminated */
struct device *subject_open(const char *spec);
bool subject_small(void);

/* "cuda in BF16" */
const char *subject_name(const struct device *d);
/* The tolerance for the precision that the device computes in. */
double subject_tolerance(const struct device *d, double fp32, double fp16, double bf16);

#endif
