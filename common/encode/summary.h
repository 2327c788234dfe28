#ifndef CCLD_ENCODE_SUMMARY_H
#define CCLD_ENCODE_SUMMARY_H

#include <stdbool.h>

#include "common/encode/tally.h"

/* What an encoder says at its end. */
struct encode_summary {
    const char *store, *part; /* part: "1/3", or NULL for the whole list */
    int parts;                /* of the store */
    bool unique;              /* duplicates were left out */
    double max_failures;      /* percent */
};

/* Returns the exit status: 0, or 1 after printing the reason. */
int encode_summary_judge(const struct encode_summary *y, const struct encode_counts *c);
void encode_summary_print(const struct encode_summary *y, const struct encode_state *s,
                          double seconds);

#endif
