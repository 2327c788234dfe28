#ifndef CCLD_SCORE_REPORT_H
#define CCLD_SCORE_REPORT_H

#include <stdbool.h>

#include "common/score/distances.h"

/* What ccld-score and ccld-find print to standard output: a table of columns that tabs separate,
 * ccld-score's with a header, or a JSON object a line. Numbers have a fixed number of digits; what
 * is unknown is - or null. In the table, control characters and backslashes of texts are escaped
 * (common/base/escape.h). */

struct report_row {
    int64_t number;   /* from 1 */
    const char *path; /* NULL: standard input */
    const char *seed; /* NULL: unknown */
    double cosine;
    double margin; /* NaN: there is no other prompt */
    const char *prompt;
};

void report_header(bool json);
void report_row(const struct report_row *r, bool json);
void report_distances(const struct distances *d, bool json);
/* Prints the samples that are nearest to an image of the reference, with -v. */
void report_closest(const struct distances *d, const struct embeddings *samples,
                    const struct embeddings *reference);

enum report_form { REPORT_TABLE, REPORT_NULL, REPORT_JSON };
/* A record that was found. REPORT_NULL: the table with texts as they are, each line ended by NUL.
 */
struct report_hit {
    const char *store; /* NULL: there is only one */
    int64_t group;     /* of duplicates, from 1; 0: none */
    double value;      /* the score, or in a group the distance */
    bool mirrored;     /* compared with the first of its group, which was mirrored */
    int64_t index;
    const char *path;
};
void report_hit(const struct report_hit *h, enum report_form form);
/* What ccld-shards remove reads: index and path. */
void report_removable(int64_t index, const char *path, enum report_form form);

#endif
