#ifndef CCLD_TRAIN_MPI_PLUGIN_H
#define CCLD_TRAIN_MPI_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* libccld-mpi.so: what the program needs of MPI, as a table of functions. It is a shared object of
 * its own, so that programs need no MPI unless a launcher has started them. It links against
 * nothing in the program. One thread makes all calls; all ranks make the same. An MPI error ends
 * the process. */

/* Bytes to send to a rank or to receive from it. */
struct mpi_piece {
    void *data;
    size_t bytes;
};

struct mpi_functions {
    uint64_t contract; /* MPI_PLUGIN_CONTRACT */
    bool open_mpi;     /* the implementation is Open MPI, which needs PMIx under Slurm */
    /* NULL, or why it failed. */
    const char *(*open)(int *rank, int *size);
    void (*gather)(const void *own, void *all, size_t bytes);
    void (*broadcast)(int root, void *data, size_t bytes);
    /* to, from: [size]. What rank a sends to b has the size that b expects from a; of the own
     * rank's pieces, nothing is used. */
    void (*exchange)(const struct mpi_piece *to, const struct mpi_piece *from);
    void (*barrier)(void);
    void (*close)(void);
};

/* The Makefile defines MPI_PLUGIN_BUILD_ID, a checksum of this file: program and plugin refuse each
 * other unless both were built from the same one. */
#define MPI_PLUGIN_CONTRACT ((uint64_t)MPI_PLUGIN_BUILD_ID << 16 ^ sizeof(struct mpi_functions))

/* Exported as "ccld_mpi". */
typedef const struct mpi_functions *mpi_plugin_entry(void);

#endif
