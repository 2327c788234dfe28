#ifndef CCLD_FIT_COMPARE_H
#define CCLD_FIT_COMPARE_H

#include "common/base/options.h"
#include "common/fit/loop.h"

/* Ranks that differ, say in their data because a host sees another file system, would not fail:
 * they would train another network. */

#define COMPARED_VALUE 80

struct compared {
    const char *what; /* the noun, after "has other": "data" */
    char value[COMPARED_VALUE];
};

/* All ranks call it with the same items except for their values. host: this rank's; "": do not name
 * it. Returns 0 if all values are equal; else -1 on all ranks, with the same e, which names the
 * first rank that differs from rank 0, its host and both values. */
int compare_ranks(struct collective *c, const char *host, const struct compared *items, int count,
                  struct error *e);

/* The same for lines of text, of which the first that differs is named; values of other lengths are
 * fine. */
int compare_lines(struct collective *c, const char *host, const char *what, const char *text,
                  struct error *e);

/* Compares what must be the same for ranks to train one network: the version of the program, its
 * options except files and folders, data, weights, precision, and the model of the GPU or the
 * instruction set of the CPU. Once parameters and state are complete. */
int compare_training(const struct fit_loop *f, const struct program *p, const char *host,
                     struct error *e);

#endif
