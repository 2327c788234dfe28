#include "tests/cuda-host/nccl_room.h"

#include <chrono>
#include <fcntl.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

using namespace cuda_host;

static const size_t RING_BYTES = 64 << 10;
static const double STUCK_SECONDS = 5; /* of nobody's progress, if ranks wait for each other */
static const double LONGEST_WAIT = 120;
static const char MAGIC[] = "emulated NCCL";

struct channel {
    std::atomic<uint64_t> written, read; /* bytes so far */
    char ring[RING_BYTES];
};
enum presence { ABSENT, PRESENT, CLOSED };
struct seat {
    std::atomic<int> presence;
    std::atomic<int> waits_for; /* a rank + 1, or 0 */
    std::atomic<uint64_t> progress, groups;
    char call[128]; /* what it waits in */
};
struct cuda_host::nccl_room {
    std::atomic<int> size;
    seat seats[RANKS_MAX];
    channel channels[RANKS_MAX][RANKS_MAX]; /* [from][to]; never written pages use no memory */
};
struct identity {
    char magic[sizeof MAGIC];
    pid_t pid;
    int file;
};

size_t cuda_host::nccl_type_bytes(ncclDataType_t type)
{
    return type == ncclFloat32 ? 4 : 1;
}

static std::string describe(const nccl_call &c)
{
    static const char *const names[] = {"ncclSend", "ncclRecv", "ncclAllGather", "ncclBroadcast",
                                        "ncclAllReduce"};
    char text[128], rank[32] = "";
    if (c.op == NCCL_SEND || c.op == NCCL_RECV)
        snprintf(rank, sizeof rank, c.op == NCCL_SEND ? " to rank %d" : " from rank %d", c.peer);
    if (c.op == NCCL_BROADCAST)
        snprintf(rank, sizeof rank, " from rank %d", c.root);
    snprintf(text, sizeof text, "%s of %llu %s%s (call %llu)", names[c.op],
             (unsigned long long)c.count, c.type == ncclFloat32 ? "float" : "uint8", rank,
             (unsigned long long)c.number);
    return text;
}

/* ---- joining */

bool nccl_member::create(ncclUniqueId *id)
{
    identity made = {};
    memcpy(made.magic, MAGIC, sizeof MAGIC);
    made.pid = getpid();
    made.file = memfd_create("emulated-nccl", MFD_CLOEXEC);
    if (made.file < 0 || ftruncate(made.file, sizeof(nccl_room)) != 0)
        return false;
    memset(id, 0, sizeof *id);
    memcpy(id, &made, sizeof made);
    return true; /* the file stays open for members that have not joined yet */
}

/* Each member locks a byte of the file: the lock goes when its process ends, even a zombie's. */
static struct flock lock_of(int rank)
{
    struct flock l = {};
    l.l_type = F_WRLCK;
    l.l_start = rank;
    l.l_len = 1;
    return l;
}

nccl_member *nccl_member::join(const ncclUniqueId &id, int rank, int size)
{
    identity made;
    char path[64];
    memcpy(&made, &id, sizeof made);
    if (memcmp(made.magic, MAGIC, sizeof MAGIC) != 0)
        return nullptr;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)made.pid, made.file);
    const int file = made.pid == getpid() ? made.file : open(path, O_RDWR | O_CLOEXEC);
    struct flock own = lock_of(rank);
    if (file < 0 || fcntl(file, F_SETLK, &own) != 0)
        return nullptr;
    void *memory = mmap(nullptr, sizeof(nccl_room), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        return nullptr;
    nccl_room *room = (nccl_room *)memory;
    int others = 0, absent = ABSENT;
    if (!room->size.compare_exchange_strong(others, size) && others != size)
        cuda_die("emulated NCCL: rank %d is one of %d, but another one of %d", rank, size, others);
    if (!room->seats[rank].presence.compare_exchange_strong(absent, PRESENT))
        return nullptr;
    return new nccl_member(room, file, rank, size);
}

nccl_member::nccl_member(nccl_room *r, int f, int own_rank, int ranks)
    : rank(own_rank), size(ranks), room(r), file(f), groups(0)
{
    const auto begin = std::chrono::steady_clock::now();
    for (int other = 0; other < size;) {
        if (room->seats[other].presence != ABSENT) {
            other++;
            continue;
        }
        const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
        if (waited.count() > LONGEST_WAIT)
            cuda_die("emulated NCCL: rank %d waits for rank %d in ncclCommInitRank", rank, other);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

nccl_member::~nccl_member()
{
    room->seats[rank].presence = CLOSED;
    munmap(room, sizeof *room);
    close(file);
}

/* ---- transfers */

uint64_t nccl_member::begin_group()
{
    room->seats[rank].groups = ++groups;
    return groups;
}

void nccl_member::send(int to, const nccl_call &call, const void *data, size_t bytes)
{
    last_sent[to] = call;
    outgoing[to].push_back({call, (char *)data, sizeof(nccl_call) + bytes, 0});
}

void nccl_member::receive(int from, const nccl_call &call, void *data, size_t bytes)
{
    incoming[from].push_back({call, (char *)data, sizeof(nccl_call) + bytes, 0});
}

/* The bytes of an item from `done` on that lie together, up to `most`: of the call, then the data.
 */
static char *part(nccl_call *call, char *data, size_t done, size_t bytes, size_t most, size_t *n)
{
    const size_t head = sizeof *call, end = done < head ? head : bytes;
    *n = min((unsigned long)(end - done), (unsigned long)most);
    return done < head ? (char *)call + done : data + (done - head);
}

bool nccl_member::write_some(int to)
{
    channel &c = room->channels[rank][to];
    const uint64_t begin = c.written;
    size_t n;
    while (!outgoing[to].empty()) {
        item &i = outgoing[to].front();
        const size_t at = c.written % RING_BYTES, unread = c.written - c.read;
        const size_t space = min((unsigned long)(RING_BYTES - unread), RING_BYTES - at);
        const char *from = part(&i.call, i.data, i.done, i.bytes, space, &n);
        if (n == 0)
            break;
        memcpy(c.ring + at, from, n);
        c.written += n;
        if ((i.done += n) == i.bytes)
            outgoing[to].erase(outgoing[to].begin());
    }
    return c.written != begin;
}

void nccl_member::compare(int from, const nccl_call &own, const nccl_call &theirs) const
{
    const nccl_op op = own.op == NCCL_RECV ? NCCL_SEND : own.op;
    if (op != theirs.op || own.type != theirs.type || own.count != theirs.count ||
        own.root != theirs.root)
        cuda_die("emulated NCCL: rank %d calls %s, but rank %d calls %s", rank,
                 describe(own).c_str(), from, describe(theirs).c_str());
}

bool nccl_member::read_some(int from)
{
    channel &c = room->channels[from][rank];
    const uint64_t begin = c.read;
    while (!incoming[from].empty() && c.read != c.written) {
        item &i = incoming[from].front();
        if (i.done == 0) {
            nccl_call
                theirs; /* may be wrapped around the end of the ring, and comes in one piece */
            if (c.written - c.read < sizeof theirs)
                break;
            for (size_t b = 0; b < sizeof theirs; b++)
                ((char *)&theirs)[b] = c.ring[(c.read + b) % RING_BYTES];
            compare(from, i.call, theirs);
            i.done = sizeof theirs;
            c.read += sizeof theirs;
        }
        size_t n = 0;
        const size_t at = c.read % RING_BYTES, unread = c.written - c.read;
        char *to =
            part(&i.call, i.data, i.done, i.bytes, min((unsigned long)unread, RING_BYTES - at), &n);
        memcpy(to, c.ring + at, n);
        c.read += n;
        if ((i.done += n) == i.bytes)
            incoming[from].erase(incoming[from].begin());
    }
    return c.read != begin;
}

bool nccl_member::advance()
{
    bool moved = false;
    for (int other = 0; other < size; other++) /* first, so that differences show at both ends */
        moved |= write_some(other);
    for (int other = 0; other < size; other++)
        moved |= read_some(other);
    if (moved)
        room->seats[rank].progress++;
    return moved;
}

/* The first rank that has not sent or taken everything, or -1. */
int nccl_member::awaited() const
{
    for (int other = 0; other < size; other++)
        if (!incoming[other].empty() || !outgoing[other].empty() ||
            room->channels[rank][other].written != room->channels[rank][other].read)
            return other;
    return -1;
}

void nccl_member::transfer()
{
    auto moved = std::chrono::steady_clock::now();
    uint64_t progress = everyones_progress();
    for (int turn = 0;; turn++) {
        if (advance())
            turn = 0;
        const int other = awaited();
        if (other < 0)
            break;
        if (progress != everyones_progress()) {
            progress = everyones_progress();
            moved = std::chrono::steady_clock::now();
        }
        const std::chrono::duration<double> idle = std::chrono::steady_clock::now() - moved;
        if (turn < 50)
            std::this_thread::yield();
        else if (turn % 50 == 0)
            wait_for(other, idle.count());
        else
            std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    room->seats[rank].waits_for = 0;
}

/* ---- ranks that wait in vain */

uint64_t nccl_member::everyones_progress() const
{
    uint64_t sum = 0;
    for (int r = 0; r < size; r++)
        sum += room->seats[r].progress;
    return sum;
}

bool nccl_member::is_alive(int other) const
{
    struct flock l = lock_of(other);
    return fcntl(file, F_GETLK, &l) != 0 || l.l_type != F_UNLCK;
}

bool nccl_member::waits_in_circle(int other) const
{
    for (int steps = 0; steps < size && other >= 0 && other != rank; steps++)
        other = room->seats[other].waits_for - 1;
    return other == rank;
}

std::string nccl_member::own_call(int other) const
{
    if (!incoming[other].empty())
        return describe(incoming[other].front().call);
    return describe(last_sent[other]);
}

/* Called now and then while the rank cannot continue without another. */
void nccl_member::wait_for(int other, double seconds)
{
    seat &own = room->seats[rank], &theirs = room->seats[other];
    const std::string call = own_call(other);
    const bool closed = theirs.presence == CLOSED, alive = closed || is_alive(other);
    snprintf(own.call, sizeof own.call, "%s", call.c_str());
    own.waits_for = other + 1;
    if ((closed || !alive) && !advance())
        cuda_die("emulated NCCL: rank %d waits for rank %d in %s, but rank %d has %s after %llu "
                 "calls",
                 rank, other, call.c_str(), other, closed ? "closed its communicator" : "ended",
                 (unsigned long long)theirs.groups);
    if (seconds > STUCK_SECONDS && waits_in_circle(other))
        cuda_die("emulated NCCL: rank %d waits for rank %d in %s, but rank %d waits in %s", rank,
                 other, call.c_str(), other, theirs.call);
    if (seconds > LONGEST_WAIT)
        cuda_die("emulated NCCL: rank %d has waited %.0f s for rank %d in %s", rank, seconds, other,
                 call.c_str());
}
