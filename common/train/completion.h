#ifndef CCLD_TRAIN_COMPLETION_H
#define CCLD_TRAIN_COMPLETION_H

#include "common/train/parameters.h"

/* Finds the order in which a backward pass completes the gradients of p's trained tensors, from a
 * dry run of a step of its network: completion[trained_count], for parameters_place. It depends on
 * the network's architecture only. */
void completion_find(const struct parameters *p, int *completion);

#endif
