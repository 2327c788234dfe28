#ifndef CCLD_SCORE_RANKING_H
#define CCLD_SCORE_RANKING_H

#include "formats/images/image_stream.h"

/* The best images of each group, in memory: no more than that, however many are offered. */
struct ranked {
    double score;
    struct image image;
    struct image_remarks remarks;
};

struct ranking {
    int most; /* per group */
    int groups;
    struct ranked **items; /* [groups][most] the best first, of equal ones the first */
    int *counts;           /* [groups] */
};

/* Set most, at least 1, in a zeroed struct. group: any number from 0; of those that were skipped
 * there are none. Takes ownership of *image and *remarks. */
void ranking_offer(struct ranking *r, int group, double score, struct image *image,
                   struct image_remarks *remarks);
void ranking_release(struct ranking *r);

#endif
