#ifndef CCLD_TESTS_PROFILE_H
#define CCLD_TESTS_PROFILE_H

#include "kernels/device.h"

/* Times of every op on a device, from its own queue if it has a clock (struct backend's lap). While
 * a profile is on, nothing is recorded: replayed work calls no ops. One device at a time. */
enum profile_phase { PHASE_FORWARD, PHASE_BACKWARD, PHASE_UPDATE, PHASE_COUNT };

/* Puts clocks in front of the device's ops. Call it before anything that may be replayed is opened.
 */
void profile_begin(struct device *d);
/* Forward work becomes backward work at the first op of a backward pass. */
void profile_phase(enum profile_phase phase);
/* Waits for the device and adds up the times so far; clear: forgets them instead. */
void profile_collect(bool clear);
/* Prints milliseconds per step by op, phase and part, then by class (tests/bench/README.md). total:
 * seconds of all steps. */
void profile_print(double total, int64_t steps);
void profile_end(void);

#endif
