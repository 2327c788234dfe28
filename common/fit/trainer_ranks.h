#ifndef CCLD_FIT_TRAINER_RANKS_H
#define CCLD_FIT_TRAINER_RANKS_H

#include "common/fit/trainer.h"

/* The trainer's ranks and their devices, in the order of the calls. */

/* Sets t->devices and t->ranks_count by --devices and --device. Under a launcher, which it joins,
 * each task is a rank, on the GPU with its number on the host. */
void trainer_choose_devices(struct trainer *t);
/* With --resume, another number of ranks keeps the effective batch by accumulating over more or
 * fewer micro-batches, unless the command line says otherwise. */
void trainer_keep_effective_batch(struct trainer *t);
/* Returns in each rank (common/fit/ranks.h); sets the loop's collective and its stop flag, which is
 * `stop` without a supervisor. */
void trainer_start_ranks(struct trainer *t, const volatile sig_atomic_t *stop);
/* After opening t->device: lets the ranks' GPUs communicate directly. */
void trainer_connect_gpus(struct trainer *t);

#endif
