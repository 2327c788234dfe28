#ifndef CCLD_FIT_RANK_PROCESS_H
#define CCLD_FIT_RANK_PROCESS_H

#include <stdbool.h>

/* What ranks need as processes, whoever has started them. Failures end the program. */

/* A file in memory, which ends with the last process that has it open. */
int memory_file(const char *name);
/* Reads standard input to its end into a memory file. */
int spool_stdin(void);
/* Makes standard input read the file from its beginning; closes fd. */
void open_spooled(int fd);
/* Prints the lines in a file of messages as warnings that begin with `who`. */
void pass_on(int fd, const char *who);

/* Uses share number `share` of `shares` of `threads` threads, at least one. */
void share_threads(int threads, int share, int shares);

#endif
