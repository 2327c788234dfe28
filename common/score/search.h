#ifndef CCLD_SCORE_SEARCH_H
#define CCLD_SCORE_SEARCH_H

#include "common/score/embed_stores.h"
#include "common/score/hits.h"

/* The records whose embeddings have the largest inner products with a direction [width] of length
 * 1, in double precision, in order. out: zeroed except for most; only scores of at least `least`.
 */
void search_stores(struct hits *out, struct embed_stores *s, const float *direction, double least);

#endif
