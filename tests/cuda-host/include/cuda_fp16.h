/* Stands in for CUDA's header of this name where kernels are compiled for the emulator. */
#include "tests/cuda-host/half.h"
