/* Stands in for CUDA's header of this name where kernels are compiled for the emulator. */
#ifndef CCLD_TESTS_CUDA_HOST_CUDA_RUNTIME_H
#define CCLD_TESTS_CUDA_HOST_CUDA_RUNTIME_H

#include "tests/cuda-host/language.h"
#include "tests/cuda-host/half.h"
#include "tests/cuda-host/runtime.h"
#include "tests/cuda-host/block.h"
#include "tests/cuda-host/launch.h"

#endif
