#ifndef CCLD_BASE_THREADS_H
#define CCLD_BASE_THREADS_H

#include <stdint.h>

/* One thread pool per process. Work is split into chunks by index, independent of the thread that
 * runs them, so results do not depend on scheduling. */

/* Sets the number of threads; 0: all cores this process may run on. May be called again. */
void threads_init(int n);
int threads_count(void);

/* Calls f(arg, begin, end, worker) over [0, n) in chunks of `grain` (the last may be shorter) and
 * returns when all are done. worker is in [0, threads_count()) and unique among concurrent calls:
 * use it to index scratch memory. Calls from different threads take turns; a call from within a
 * chunk runs serially with its caller's worker number. */
void parallel_for(int64_t n, int64_t grain,
                  void (*f)(void *arg, int64_t begin, int64_t end, int worker), void *arg);

#endif
