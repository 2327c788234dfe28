#include "common/train/mpi/plugin.h"

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PART_BYTES ((size_t)1 << 22) /* sent to a rank at a time; MPI counts in int */
/* Larger ones are not collected by MPI's own algorithms, which may copy all. */
#define GATHER_BYTES ((size_t)1 << 20)
#define SPIN_SECONDS 0.02 /* before a waiting process sleeps between looks */

static int size, self;
static MPI_Request *requests; /* [2 * size] */

/* MPI's own waiting would keep a core busy, also while the first rank writes a checkpoint. */
static void wait_for(int count, MPI_Request *pending)
{
    double begin = MPI_Wtime();
    for (int done = 0; MPI_Testall(count, pending, &done, MPI_STATUSES_IGNORE), !done;) {
        double waited = MPI_Wtime() - begin;
        double pause = waited < 0.1 ? waited / 100 : 1e-3;
        if (waited < SPIN_SECONDS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = (long)(pause * 1e9)}, NULL);
    }
}

static const char *open_mpi(int *rank, int *ranks)
{
    int provided;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return "MPI_Init_thread failed";
    if (provided < MPI_THREAD_FUNNELED)
        return "this MPI library does not support threads (MPI_THREAD_FUNNELED)";
    MPI_Comm_rank(MPI_COMM_WORLD, &self);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    *rank = self;
    *ranks = size;
    requests = malloc(2 * (size_t)size * sizeof *requests);
    return requests ? NULL : "out of memory";
}

static size_t part_of(const struct mpi_piece *p, size_t at)
{
    return at >= p->bytes ? 0 : p->bytes - at < PART_BYTES ? p->bytes - at : PART_BYTES;
}

/* Bytes at and following of all pieces; false if there are none. */
static bool exchange_part(const struct mpi_piece *to, const struct mpi_piece *from, size_t at)
{
    int pending = 0;
    for (int i = 1; i < size; i++) { /* each rank begins with another */
        int source = (self + size - i) % size;
        size_t n = part_of(&from[source], at);
        if (n > 0)
            MPI_Irecv((char *)from[source].data + at, (int)n, MPI_BYTE, source, 0, MPI_COMM_WORLD,
                      &requests[pending++]);
    }
    for (int i = 1; i < size; i++) {
        int target = (self + i) % size;
        size_t n = part_of(&to[target], at);
        if (n > 0)
            MPI_Isend((char *)to[target].data + at, (int)n, MPI_BYTE, target, 0, MPI_COMM_WORLD,
                      &requests[pending++]);
    }
    wait_for(pending, requests);
    return pending > 0;
}

static void exchange(const struct mpi_piece *to, const struct mpi_piece *from)
{
    for (size_t at = 0; exchange_part(to, from, at);)
        at += PART_BYTES;
}

static void gather_large(const void *own, void *all, size_t bytes)
{
    struct mpi_piece *pieces = malloc(2 * (size_t)size * sizeof *pieces);
    if (!pieces)
        MPI_Abort(MPI_COMM_WORLD, 1);
    for (int r = 0; r < size; r++) {
        pieces[r] = (struct mpi_piece){(void *)own, bytes};
        pieces[size + r] = (struct mpi_piece){(char *)all + (size_t)r * bytes, bytes};
    }
    exchange(pieces, pieces + size);
    memcpy((char *)all + (size_t)self * bytes, own, bytes);
    free(pieces);
}

static void gather(const void *own, void *all, size_t bytes)
{
    if (bytes > GATHER_BYTES) {
        gather_large(own, all, bytes);
        return;
    }
    MPI_Iallgather(own, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD, requests);
    wait_for(1, requests);
}

static void broadcast(int root, void *data, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PART_BYTES) {
        size_t n = bytes - at < PART_BYTES ? bytes - at : PART_BYTES;
        MPI_Ibcast((char *)data + at, (int)n, MPI_BYTE, root, MPI_COMM_WORLD, requests);
        wait_for(1, requests);
    }
}

static void barrier(void)
{
    MPI_Ibarrier(MPI_COMM_WORLD, requests);
    wait_for(1, requests);
}

static void close_mpi(void)
{
    free(requests);
    MPI_Finalize();
}

__attribute__((visibility("default"))) const struct mpi_functions *ccld_mpi(void);

const struct mpi_functions *ccld_mpi(void)
{
    static const struct mpi_functions functions = {
        .contract = MPI_PLUGIN_CONTRACT,
#ifdef OPEN_MPI
        .open_mpi = true,
#endif
        .open = open_mpi,
        .gather = gather,
        .broadcast = broadcast,
        .exchange = exchange,
        .barrier = barrier,
        .close = close_mpi,
    };
    return &functions;
}
