#ifndef CCLD_SCORE_REPORT_H
#define CCLD_SCORE_REPORT_H

#include <stdbool.h>

#include "common/score/distances.h"

/* What ccld-score prints to standard output: a table of columns that tabs separate, with a header,
 * or a JSON object a line. Numbers have a fixed number of digits; what is unknown is - or null. In
 * the table, control characters and backslashes of texts are escaped (common/base/escape.h). */

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

#endif
