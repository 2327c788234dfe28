#ifndef CCLD_PROGRAM_STOP_H
#define CCLD_PROGRAM_STOP_H

#include <signal.h>
#include <stdbool.h>

/* For programs whose work must survive the end of those who watch it.
 *
 * SIGINT, SIGTERM, SIGUSR1 and SIGHUP ask such a program to stop; a second one ends it at once.
 * SIGHUP does not count as a first or second one: a terminal that closes sends it several times,
 * and others follow when its session ends. SIGHUP stays ignored if it was from the start (nohup).
 */

/* Ignores SIGPIPE, so that messages may be lost but nothing else. */
void stop_not_by_pipe(void);

/* The signals that ask to stop. */
void stop_signals(sigset_t *set);
/* Counts a signal that has arrived: true if the program is to end at once. Async-signal-safe. */
bool stop_at_once(int signal);

/* From now on, these signals are caught by this process. */
void stop_catch(void);
/* *result is the first signal that was caught; 0: none. */
const volatile sig_atomic_t *stop_caught(void);

#endif
