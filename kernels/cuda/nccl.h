#ifndef CCLD_KERNELS_CUDA_NCCL_H
#define CCLD_KERNELS_CUDA_NCCL_H

/* NCCL, which is loaded only when several GPUs are used: it is larger than everything else
 * together. Here is the part of its interface that the backend uses, with the names and values of
 * its own header, which a build does not need. NCCL 2.13 or later. */

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

struct nccl {
#define FUNCTION(name, result, parameters) result(*name) parameters;
    NCCL_FUNCTIONS
#undef FUNCTION
};

/* Loads $CCLD_NCCL if that is set, else libnccl.so.2 from where the loader looks and from the
 * folders that the Makefile found. Returns NULL with *problem set to why it cannot, as will every
 * later call. */
const struct nccl *nccl_load(const char **problem);

#endif
