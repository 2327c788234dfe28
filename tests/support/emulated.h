#ifndef CCLD_TESTS_EMULATED_H
#define CCLD_TESTS_EMULATED_H

/* Path of the CUDA backend built for the emulator (tests/cuda-host/), relative to the running test.
 * The caller frees it. */
char *emulated_plugin(void);

/* Makes device "cuda" load the plugin named by $CCLD_CUDA_PLUGIN, by default the emulated one. */
void emulated_cuda(void);

#endif
