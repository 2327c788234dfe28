/* Replaces NCCL between emulated devices of several processes. A call is a task of its stream.
 * Sums are in the order of ranks. */
#include <memory>

#include "tests/cuda-host/nccl_room.h"
#include "tests/cuda-host/streams.h"

using namespace cuda_host;

struct ncclComm {
    nccl_member *member;
};

struct operation {
    nccl_member *member;
    nccl_call call;
    const void *from;
    void *to;
    cudaStream_t stream;
};

static std::string last_error;
static int depth; /* of groups */
static std::vector<operation> group;

#define FUNCTION(name, result, parameters) extern "C" result name parameters;
NCCL_FUNCTIONS
#undef FUNCTION

static ncclResult_t refuse(ncclResult_t why, const char *text)
{
    last_error = text;
    return why;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclSuccess           ? "no error"
           : result == ncclSystemError     ? "unhandled system error"
           : result == ncclInvalidArgument ? "invalid argument"
                                           : "invalid usage";
}

const char *ncclGetLastError(ncclComm_t)
{
    return last_error.c_str();
}

/* ---- communicators */

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    return nccl_member::create(id) ? ncclSuccess : refuse(ncclSystemError, "no memory to share");
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int size, ncclUniqueId id, int rank)
{
    if (size < 1 || size > RANKS_MAX || rank < 0 || rank >= size)
        return refuse(ncclInvalidArgument, "the rank is out of range");
    nccl_member *member = nccl_member::join(id, rank, size);
    if (!member)
        return refuse(ncclInvalidUsage, "the id is none, or the rank has joined already");
    run_in_background();
    *comm = new ncclComm{member};
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    guard held(lock);
    run_all();
    delete comm->member;
    delete comm;
    return ncclSuccess;
}

/* ---- what a group's calls transfer */

static void to_all(const operation &o, const void *data, size_t bytes)
{
    for (int r = 0; r < o.member->size; r++)
        if (r != o.member->rank)
            o.member->send(r, o.call, data, bytes);
}

static void all_gather(const operation &o, size_t bytes)
{
    char *all = (char *)o.to;
    memmove(all + (size_t)o.member->rank * bytes, o.from, bytes);
    to_all(o, all + (size_t)o.member->rank * bytes, bytes);
    for (int r = 0; r < o.member->size; r++)
        if (r != o.member->rank)
            o.member->receive(r, o.call, all + (size_t)r * bytes, bytes);
}

/* All exchange the call, so that differences are noticed; the root sends data with it. */
static void broadcast(const operation &o, size_t bytes)
{
    const bool root = o.member->rank == o.call.root;
    if (root)
        memmove(o.to, o.from, bytes);
    to_all(o, o.to, root ? bytes : 0);
    for (int r = 0; r < o.member->size; r++)
        if (r != o.member->rank)
            o.member->receive(r, o.call, o.to, r == o.call.root ? bytes : 0);
}

/* all: the ranks' operands, for add_operands. */
static void all_reduce(const operation &o, std::vector<float> &all)
{
    const size_t count = o.call.count, bytes = count * sizeof(float);
    all.resize(count * (size_t)o.member->size);
    memcpy(&all[count * (size_t)o.member->rank], o.from, bytes);
    to_all(o, &all[count * (size_t)o.member->rank], bytes);
    for (int r = 0; r < o.member->size; r++)
        if (r != o.member->rank)
            o.member->receive(r, o.call, &all[count * (size_t)r], bytes);
}

static void add_operands(const operation &o, const std::vector<float> &all)
{
    for (size_t i = 0; i < o.call.count; i++) {
        float sum = all[i];
        for (int r = 1; r < o.member->size; r++)
            sum += all[o.call.count * (size_t)r + i];
        ((float *)o.to)[i] = sum;
    }
}

static void run_group(std::vector<operation> operations)
{
    std::vector<nccl_member *> members;
    std::vector<std::vector<float>> operands(operations.size());
    for (const operation &o : operations)
        if (std::find(members.begin(), members.end(), o.member) == members.end())
            members.push_back(o.member);
    for (nccl_member *m : members) {
        const uint64_t number = m->begin_group();
        for (operation &o : operations)
            if (o.member == m)
                o.call.number = number;
    }
    for (size_t i = 0; i < operations.size(); i++) {
        const operation &o = operations[i];
        const size_t bytes = o.call.count * nccl_type_bytes(o.call.type);
        if (o.call.op == NCCL_SEND)
            o.member->send(o.call.peer, o.call, o.from, bytes);
        else if (o.call.op == NCCL_RECV)
            o.member->receive(o.call.peer, o.call, o.to, bytes);
        else if (o.call.op == NCCL_ALL_GATHER)
            all_gather(o, bytes);
        else if (o.call.op == NCCL_BROADCAST)
            broadcast(o, bytes);
        else
            all_reduce(o, operands[i]);
    }
    for (nccl_member *m : members)
        m->transfer();
    for (size_t i = 0; i < operations.size(); i++)
        if (operations[i].call.op == NCCL_ALL_REDUCE)
            add_operands(operations[i], operands[i]);
}

/* ---- groups of calls */

ncclResult_t ncclGroupStart()
{
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd()
{
    if (depth < 1)
        return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--depth > 0 || group.empty())
        return ncclSuccess;
    const std::vector<operation> operations = std::move(group);
    group.clear();
    for (const operation &o : operations)
        if (o.stream != operations[0].stream)
            return refuse(ncclInvalidUsage, "a group on two streams is not emulated");
    host_task(operations[0].stream, [operations] { run_group(operations); });
    return ncclSuccess;
}

static ncclResult_t add(nccl_op op, ncclComm_t comm, const void *from, void *to, size_t count,
                        ncclDataType_t type, int rank, cudaStream_t stream)
{
    const nccl_member *m = comm->member;
    const bool to_rank = op == NCCL_SEND || op == NCCL_RECV;
    const size_t bytes = count * nccl_type_bytes(type);
    if (type != ncclUint8 && type != ncclFloat32)
        return refuse(ncclInvalidArgument, "the type is not emulated");
    if (rank < 0 || rank >= m->size || (to_rank && rank == m->rank))
        return refuse(ncclInvalidArgument, "the other rank is out of range");
    if ((from && !in_device_memory(from, bytes)) ||
        (to && !in_device_memory(to, op == NCCL_ALL_GATHER ? bytes * (size_t)m->size : bytes)))
        return refuse(ncclInvalidArgument, "the data are not in device memory");
    ncclGroupStart();
    group.push_back({comm->member,
                     {op, type, op == NCCL_BROADCAST ? rank : 0, rank, count, 0},
                     from,
                     to,
                     stream});
    return ncclGroupEnd();
}

ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    return add(NCCL_SEND, comm, data, nullptr, count, type, peer, stream);
}
ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return add(NCCL_RECV, comm, nullptr, data, count, type, peer, stream);
}
ncclResult_t ncclAllGather(const void *own, void *all, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    return add(NCCL_ALL_GATHER, comm, own, all, count, type, 0, stream);
}
ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    return add(NCCL_BROADCAST, comm, from, to, count, type, root, stream);
}
ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    if (type != ncclFloat32 || op != ncclSum)
        return refuse(ncclInvalidArgument, "only sums of float are emulated");
    return add(NCCL_ALL_REDUCE, comm, from, to, count, type, 0, stream);
}
