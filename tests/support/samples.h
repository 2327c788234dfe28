#ifndef CCLD_TESTS_SAMPLES_H
#define CCLD_TESTS_SAMPLES_H

#include "formats/images/image.h"

/* What benchmarks share that judge samples: image streams of ccld-plms, whose images have their
 * prompts, or images with captions in .txt files beside them; and tables with a row for each
 * guidance. All functions end the program with a message on failure. */

/* prompt and guidance may be NULL. */
typedef void samples_judge(void *context, const struct image *image, const char *prompt,
                           const char *guidance);

/* Calls judge for each image of the files, or of standard input if there are none; "-" stands for
 * it. Refuses CMYK. */
void samples_read(char **files, int count, samples_judge *judge, void *context);

#define SAMPLES_MAX_ROWS 32
struct sample_rows {
    int count;
    char *guidance[SAMPLES_MAX_ROWS];
};

/* The index of the guidance's row, which is added if it is new. */
int sample_rows_find(struct sample_rows *rows, const char *guidance);
void sample_rows_release(struct sample_rows *rows);

/* Prints a cell: the number of images, and the shares of them that are right. */
void print_shares(int images, const int *right, int count);

#endif
