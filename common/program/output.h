#ifndef CCLD_PROGRAM_OUTPUT_H
#define CCLD_PROGRAM_OUTPUT_H

#include "common/base/error.h"

/* What programs that write binary data to stdout share. */

/* Ends the program with status 2 when stdout is a terminal; `instead` says what to do, e.g. "pipe
 * it into ccld-grid or redirect it". From then on a closed pipe is an error of write, not a signal.
 */
void output_begin_binary(const char *instead);

/* After a write to stdout failed: ends the program with status 1, without a word when the reader
 * has gone (errno says so), else with the reason in e. */
_Noreturn void output_failed(const struct error *e);

#endif
