/* Counting instead of computing: with CCLD_EMULATED_COUNT=1 no kernel, library call or copy runs,
 * device memory has addresses but no bytes, and each of them is reported to a listener. So the
 * launches of networks of any size can be counted in seconds (tests/bench/count.c). */
#ifndef CCLD_TESTS_CUDA_HOST_COUNT_H
#define CCLD_TESTS_CUDA_HOST_COUNT_H

#include <stddef.h>

/* name: of the kernel, as written in LAUNCH, or of the library call or copy. flop and bytes: what a
 * library call or copy computes and moves at least; 0 for kernels, of which only their op knows. */
typedef void count_listener(const char *name, double flop, double bytes);
extern "C" void ccld_cuda_count_work(count_listener *listener);

namespace cuda_host
{
bool counts();
/* Reports work; true: it must not run. Does nothing, and returns false, unless counts(). */
bool counted(const char *name, double flop, double bytes);
/* Addresses for cudaMalloc. */
void *reserve(size_t bytes);
void give_back(void *p, size_t bytes);
} // namespace cuda_host

#endif
