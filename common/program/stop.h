#ifndef CCLD_PROGRAM_STOP_H
#define CCLD_PROGRAM_STOP_H

#include <signal.h>
#include <stdbool.h>

/* For programs whose work must survive the end of those who watch it.
 *
 * SIGINT, SIGTERM, SIGUSR1, SIGXCPU and SIGHUP ask such a program to stop; a second one ends it at
 * once. Two of them do not count as a first or second one, because they are repeated: a terminal
 * that closes sends SIGHUP several times, and others follow when its session ends; SIGXCPU comes
 * every second once the limit of CPU time is reached. SIGHUP stays ignored if it was from the start
 * (nohup). */

/* Ignores SIGPIPE and SIGXFSZ: a write that fails says so itself. Messages may be lost, but nothing
 * else. */
void stop_not_by_writing(void);

/* The signals that ask to stop. */
void stop_signals(sigset_t *set);
/* Counts a signal that has arrived: true if the program is to end at once. Async-signal-safe. */
bool stop_at_once(int signal);

/* From now on, these signals are caught by this process. */
void stop_catch(void);
/* *result is the first signal that was caught; 0: none. */
const volatile sig_atomic_t *stop_caught(void);

#endif
