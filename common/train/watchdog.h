#ifndef CCLD_TRAIN_WATCHDOG_H
#define CCLD_TRAIN_WATCHDOG_H

#include <signal.h>
#include <stdbool.h>

/* How long a rank may wait for others before they count as hung or gone. */

/* In seconds: $CCLD_WATCHDOG, 600 if it is not set, without limit if it is 0; after a stop signal
 * at most 10. Five times the longest wait so far if that is more. */
double watchdog_limit(double longest_wait, bool stopping);

/* A thread that watches how long this process waits, for ranks without a supervisor. It calls end
 * when a wait is too long; `what` is what watchdog_enter got. A process that was itself stopped for
 * a while is not held responsible. delay: seconds to add, so that not all ranks report at once.
 * stop: nonzero after a stop signal. */
struct watchdog_options {
    void (*end)(const char *what, double seconds);
    const volatile sig_atomic_t *stop;
    double delay;
};
void watchdog_start(const struct watchdog_options *o);

/* Begin and end a wait. `what`: a literal. They cost little, and do nothing else without a thread.
 */
void watchdog_enter(const char *what);
void watchdog_leave(void);
/* With on, waits have no limit. */
void watchdog_patient(bool on);
/* Another rank has got a stop signal. */
void watchdog_stopping(void);

#endif
