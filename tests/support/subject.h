#ifndef CCLD_TESTS_SUBJECT_H
#define CCLD_TESTS_SUBJECT_H

#include <stdbool.h>

#include "kernels/device.h"

/* What tests of networks run on: the CPU and the plain kernels of ref, or, where the environment
 * names one, that device alone:
 *   CCLD_DEVICE      cuda, cuda:N, cpu, ref
 *   CCLD_PRECISION   fp32 (the default here), bf16, fp16
 *   CCLD_TEST_SMALL  leave out what takes too long on an emulated GPU
 *   CCLD_EXPECT_GPU  a test that is left out has failed (tap_skip) */
const char *const *subject_devices(void); /* NULL-terminated */
struct device *subject_open(const char *spec);
bool subject_small(void);

/* "cuda in BF16" */
const char *subject_name(const struct device *d);
/* fp32 on the CPU's backends; elsewhere by what the device computes in. */
double subject_tolerance(const struct device *d, double fp32, double fp16, double bf16);

#endif
