#ifndef CCLD_TESTS_SYNTH_H
#define CCLD_TESTS_SYNTH_H

#include <stddef.h>
#include <stdint.h>

/* The formula of all synthetic weights and inputs in the golden files (see synth.py there): a
 * splitmix64 counter, seeded by FNV-1a of the tensor's name and a seed; 24-bit floats in [-1, 1).
 */
void synth_uniform(float *out, size_t n, const char *name, uint64_t seed);
/* Uniform of variance 1/fan_in (fan_in = product of shape[1:]) for two or more dimensions, 1 + 0.1u
 * for one-dimensional names that end in ".weight", 0.1u for other one-dimensional tensors. */
void synth_weight(float *out, const char *name, int ndim, const int64_t *shape, uint64_t seed);
void synth_data(float *out, size_t n, const char *name, uint64_t seed, double scale);
#define SYNTH_DATA_SCALE 1.7320508075688772 /* unit variance: synth.py's default */

#endif
