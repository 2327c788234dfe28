#ifndef CCLD_TESTS_EMULATED_H
#define CCLD_TESTS_EMULATED_H

/* Where the CUDA backend lies that runs on the emulator (tests/cuda-host/), beside this test. The
 * caller frees it. */
char *emulated_plugin(void);

/* From now on "cuda" is what $CCLD_CUDA_PLUGIN says, or else the emulator. */
void emulated_cuda(void);

#endif
