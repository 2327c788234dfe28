#ifndef CCLD_BASE_SIGNAL_NAME_H
#define CCLD_BASE_SIGNAL_NAME_H

/* "TERM" for SIGTERM, as glibc's sigabbrev_np, which other C libraries lack; "?" for signals that
 * have no name. */
const char *signal_name(int number);

#endif
