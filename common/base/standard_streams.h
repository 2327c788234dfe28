#ifndef CCLD_BASE_STANDARD_STREAMS_H
#define CCLD_BASE_STANDARD_STREAMS_H

#include <stdbool.h>

/* Opens /dev/null in the place of standard input, output or error that is closed, before a file of
 * the program takes its number and messages are written into it. Reading then meets the end of the
 * file, writing results fails, and messages are lost. Call it before any file is opened. */
void standard_streams_open(void);

/* Whether standard output or error is written to the file `name` in an open folder. */
bool standard_streams_fill(int folder, const char *name);

#endif
