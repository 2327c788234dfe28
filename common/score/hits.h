#ifndef CCLD_SCORE_HITS_H
#define CCLD_SCORE_HITS_H

#include <stdint.h>

/* The best of many scored records: no more than that are in memory, however many are offered. */
struct hit {
    double score;
    int64_t at; /* the record's number */
};

struct hits {
    int64_t most, count, capacity;
    struct hit *items; /* a heap, the worst first; in order after hits_sort */
};

/* Set most, at least 1, in a zeroed struct. Of equal scores, the smaller number is better; so the
 * order of offers does not matter. */
void hits_offer(struct hits *h, double score, int64_t at);
/* Sorts the items, the best first. Nothing can be offered afterwards. */
void hits_sort(struct hits *h);
void hits_release(struct hits *h);

#endif
