#ifndef CCLD_TESTS_WORK_H
#define CCLD_TESTS_WORK_H

#include <stdio.h>

#include "kernels/device.h"

/* Counts what a GPU would do for some work, and models its time. The CUDA backend itself runs on
 * the emulator, which reports each launch, library call, fill and copy instead of executing it
 * (tests/cuda-host/count.h); the sizes of an op's operands say what its kernels read and write.
 * Nothing here is measured. */

/* Opens the emulated device in this precision; "fp32" may use TF32. Call it before anything else
 * uses a GPU; ends the program if that is not possible. program: argv[0], which lies in
 * tests/bench. */
struct device *work_open(const char *program, const char *precision, bool tf32);
/* Starts counting from zero. */
void work_begin(void);

enum work_format { WORK_TABLE, WORK_TSV, WORK_LAUNCHES };
/* Prints what was counted since work_begin, `rounds` times the same: classes of work with launches,
 * TFLOP, GB and modelled milliseconds, and their sum, all of one round; WORK_LAUNCHES: each op with
 * its launches instead. Returns the modelled seconds of a round. */
double work_print(FILE *out, enum work_format format, const struct device *d, const char *title,
                  int rounds);

#endif
