/* An emulator of the part of CUDA that kernels/cuda/cuda.cuh names, which includes this when
 * CUDA_ON_HOST is defined. */
#ifndef CCLD_TESTS_CUDA_HOST_CUDA_H
#define CCLD_TESTS_CUDA_HOST_CUDA_H

#include "tests/cuda-host/language.h"
#include "tests/cuda-host/half.h"
#include "tests/cuda-host/runtime.h"
#include "tests/cuda-host/block.h"
#include "tests/cuda-host/launch.h"

#endif
