#ifndef CCLD_TRAIN_COLLECTIVE_SHARED_H
#define CCLD_TRAIN_COLLECTIVE_SHARED_H

#include "common/train/collective.h"

/* Ranks of one host as processes that share memory: an anonymous mapping, so nothing is left behind
 * however they end. Their devices must have host memory. */
struct shared_room;

#define RANKS_MAX 64

/* Call it before forking the ranks; the mapping lives as long as any of them. */
struct shared_room *shared_room_new(int size);
void shared_room_free(struct shared_room *room); /* NULL is fine */

/* In a rank's process. Close it before the process ends, or do not: nothing depends on it. */
struct collective *collective_shared(struct shared_room *room, int rank);

/* For a supervisor: whether the rank waits for others right now; for how many seconds it has, from
 * `since` (a value of seconds_now) on, 0 if it does not or is patient (collective_patient); and the
 * longest wait so far. */
bool shared_room_waits(const struct shared_room *room, int rank);
double shared_room_waited(const struct shared_room *room, int rank, double since);
double shared_room_longest_wait(const struct shared_room *room);

#endif
