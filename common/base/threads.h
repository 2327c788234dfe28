#ifndef CCLD_BASE_THREADS_H
#define CCLD_BASE_THREADS_H

#include <stdint.h>

/* One pool for the whole process. Work is cut into chunks by index, never by who runs it, so that
 * results do not depend on scheduling. */

/* n = 0: all cores this process may run on. May be called again; the pool is resized. */
void threads_init(int n);
int threads_count(void);

/* Calls f(arg, begin, end, worker) over [0, n) in chunks of `grain` (the last may be shorter) and
 * returns when all are done. worker is in [0, threads_count()) and unique among calls that run at
 * the same time: an index for scratch memory. Calls from several threads take turns; a call from
 * inside a chunk runs serially in place with its caller's worker number. */
void parallel_for(int64_t n, int64_t grain,
                  void (*f)(void *arg, int64_t begin, int64_t end, int worker), void *arg);

#endif
