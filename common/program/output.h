#ifndef CCLD_PROGRAM_OUTPUT_H
#define CCLD_PROGRAM_OUTPUT_H

#include "common/base/error.h"

/* For programs that write results to stdout. */

/* Exits with status 2 if stdout is a terminal; `instead` says what to do, e.g. "redirect it".
 * Ignores SIGPIPE, so that writing to a closed pipe fails with an error. */
void output_begin_binary(const char *instead);

/* Call it after a failed write to stdout, with errno unchanged: exits with status 1, silently if
 * the reader has closed the pipe, else with the reason in e. */
_Noreturn void output_failed(const struct error *e);

/* Call it after the last write to stdout: exits as output_failed does if one has failed. */
void output_finish(void);

#endif
