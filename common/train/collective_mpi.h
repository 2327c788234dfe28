#ifndef CCLD_TRAIN_COLLECTIVE_MPI_H
#define CCLD_TRAIN_COLLECTIVE_MPI_H

#include "common/base/error.h"
#include "common/train/collective.h"

/* Ranks on any number of hosts that a launcher such as mpirun or srun has started. The first call
 * loads libccld-mpi.so: from $CCLD_MPI_PLUGIN if that is set, else from the program's folder, else
 * from ../lib/ccld relative to it. Devices must have host memory. Sums are those of
 * collective_shared, bit for bit. */

/* All processes of a launch call it, once. tasks: how many there are, -1 if the launcher does not
 * say. Returns 0, or -1 with e set. All ranks close it. */
int collective_mpi_open(struct collective **out, int tasks, struct error *e);

#endif
