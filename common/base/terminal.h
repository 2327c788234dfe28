#ifndef CCLD_BASE_TERMINAL_H
#define CCLD_BASE_TERMINAL_H

/* For common/base only: messages and the progress line share stderr. Between terminal_lock and
 * terminal_unlock, only the caller writes to it. */
void terminal_lock(void);
void terminal_unlock(void);
/* Replaces the line at the bottom of the terminal; NULL or "" removes it. Call with the lock held.
 * `line` must stay valid until the next call. */
void terminal_set_line(const char *line);

#endif
