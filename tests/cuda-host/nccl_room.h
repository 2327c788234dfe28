/* The memory that the processes of an emulated NCCL communicator share: a channel from each rank to
 * each other one. The memory has no name, so nothing is left however the processes end. */
#ifndef CCLD_TESTS_CUDA_HOST_NCCL_ROOM_H
#define CCLD_TESTS_CUDA_HOST_NCCL_ROOM_H

#include <atomic>
#include <string>
#include <vector>

#include "kernels/cuda/nccl.h"

namespace cuda_host
{
static const int RANKS_MAX = 64;

enum nccl_op { NCCL_SEND, NCCL_RECV, NCCL_ALL_GATHER, NCCL_BROADCAST, NCCL_ALL_REDUCE };
/* What both ends of a channel must agree on; sent before the data. */
struct nccl_call {
    nccl_op op;
    ncclDataType_t type;
    int root;        /* of a broadcast */
    int peer;        /* of send and recv; not compared */
    uint64_t count;  /* elements */
    uint64_t number; /* counts the rank's groups of calls; not compared */
};
size_t nccl_type_bytes(ncclDataType_t type);

struct nccl_room; /* the shared memory */

class nccl_member
{
  public:
    const int rank, size;

    /* Creates the memory and describes it in the id, for a member in any process of the user. It
     * exists as long as this process or a member. */
    static bool create(ncclUniqueId *id);
    /* Returns when all ranks have joined. Null if the id is none or the rank is taken. */
    static nccl_member *join(const ncclUniqueId &id, int rank, int size);
    ~nccl_member();

    /* Queue data to or from a rank, in its order; calls as this rank makes them. */
    void send(int to, const nccl_call &call, const void *data, size_t bytes);
    void receive(int from, const nccl_call &call, void *data, size_t bytes);
    /* Transfers all that is queued. Ends the program if the ranks' calls differ, or if one that is
     * waited for has ended or waits for this one. */
    void transfer();
    uint64_t begin_group();

  private:
    struct item {
        nccl_call call;
        char *data;
        size_t bytes, done; /* including the call */
    };
    nccl_room *room;
    int file;
    uint64_t groups;
    nccl_call last_sent[RANKS_MAX];
    std::vector<item> outgoing[RANKS_MAX], incoming[RANKS_MAX];

    nccl_member(nccl_room *r, int f, int own_rank, int ranks);
    bool advance();
    bool write_some(int to);
    bool read_some(int from);
    void compare(int from, const nccl_call &expected, const nccl_call &theirs) const;
    int awaited() const;
    bool is_alive(int other) const;
    bool waits_in_circle(int other) const;
    uint64_t everyones_progress() const;
    void wait_for(int other, double seconds);
    std::string own_call(int other) const;
};
} // namespace cuda_host

#endif
