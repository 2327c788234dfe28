#ifndef CCLD_KERNELS_CUDA_NCCL_API_H
#define CCLD_KERNELS_CUDA_NCCL_API_H

/* The part of NCCL's interface that the backend uses, with the names and values of its header
 * nccl.h, which a build does not need. NCCL 2.13 or later. */

#include "kernels/cuda/cuda.cuh"

typedef struct ncclComm *ncclComm_t;
typedef struct {
    char internal[128];
} ncclUniqueId;
enum ncclResult_t {
    ncclSuccess = 0,
    ncclSystemError = 2,
    ncclInvalidArgument = 4,
    ncclInvalidUsage = 5,
};
enum ncclDataType_t { ncclUint8 = 1, ncclFloat32 = 7 };
enum ncclRedOp_t { ncclSum = 0 };

/* FUNCTION(name, result, parameters) */
#define NCCL_FUNCTIONS                                                                             \
    FUNCTION(ncclGetUniqueId, ncclResult_t, (ncclUniqueId * id))                                   \
    FUNCTION(ncclCommInitRank, ncclResult_t,                                                       \
             (ncclComm_t * comm, int nranks, ncclUniqueId id, int rank))                           \
    FUNCTION(ncclCommDestroy, ncclResult_t, (ncclComm_t comm))                                     \
    FUNCTION(ncclGetErrorString, const char *, (ncclResult_t result))                              \
    FUNCTION(ncclGetLastError, const char *, (ncclComm_t comm))                                    \
    FUNCTION(ncclGroupStart, ncclResult_t, ())                                                     \
    FUNCTION(ncclGroupEnd, ncclResult_t, ())                                                       \
    FUNCTION(ncclSend, ncclResult_t,                                                               \
             (const void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,      \
              cudaStream_t stream))                                                                \
    FUNCTION(ncclRecv, ncclResult_t,                                                               \
             (void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,            \
              cudaStream_t stream))                                                                \
    FUNCTION(ncclAllGather, ncclResult_t,                                                          \
             (const void *own, void *all, size_t count, ncclDataType_t type, ncclComm_t comm,      \
              cudaStream_t stream))                                                                \
    FUNCTION(ncclBroadcast, ncclResult_t,                                                          \
             (const void *from, void *to, size_t count, ncclDataType_t type, int root,             \
              ncclComm_t comm, cudaStream_t stream))                                               \
    FUNCTION(ncclAllReduce, ncclResult_t,                                                          \
             (const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,       \
              ncclComm_t comm, cudaStream_t stream))

#endif
