/* The ranks that mpirun has started, as one test: mpirun -n 3 collective_mpi. Prints TAP. */
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/train/collective_mpi.h"
#include "tests/support/collective_checks.h"
#include "tests/support/tap.h"

int main(void)
{
    struct collective *c;
    struct error e;
    if (collective_mpi_open(&c, -1, &e) != 0)
        die("%s", e.text);
    int rank = c->rank, size = c->size, all[COLLECTIVE_RANKS_MAX], failed = 0;
    CHECK(size <= COLLECTIVE_RANKS_MAX);
    int own = collective_check(c);
    collective_gather(c, &own, all, sizeof own);
    for (int r = 0; r < size; r++)
        failed |= all[r];
    collective_close(c);
    if (rank == 0)
        collective_report(size, failed);
    return rank == 0 ? tap_done() : 0;
}
