/* What the files of the emulator share, streams above all. Only events order the work of different
 * streams. In each wait, the work of streams that are not waited for runs as early as their own
 * waits allow, or as late: which of both varies from wait to wait, or is set by
 * CCLD_EMULATED_ORDER=early or late. Of two streams, either order puts every pair of unordered
 * tasks the other way round than the other one does. A graph's branches are treated in the same
 * way. */
#ifndef CCLD_TESTS_CUDA_HOST_STREAMS_H
#define CCLD_TESTS_CUDA_HOST_STREAMS_H

#include <mutex>

#include "tests/cuda-host/runtime.h"

namespace cuda_host
{
extern std::recursive_mutex &lock; /* held by every call of the runtime, and while work runs */
typedef std::lock_guard<std::recursive_mutex> guard;

/* Stores e for cudaGetLastError and returns it. */
cudaError_t failed(cudaError_t e);

/* Calls that wait, or may wait, are refused during a capture and invalidate it. */
bool refused_by_capture();
bool is_captured(cudaStream_t stream);

bool in_device_memory(const void *p, size_t bytes); /* within one allocation, or no bytes */

/* Run pending work: all of it, or a stream's and what that waits for. */
void run_all();
void run_stream(cudaStream_t stream);
/* Starts a thread that runs pending work while the program does something else for a while. Devices
 * that communicate need it, because work of one may wait for work of another whose program waits on
 * the host. */
void run_in_background();
} // namespace cuda_host

#endif
