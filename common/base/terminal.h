#ifndef CCLD_BASE_TERMINAL_H
#define CCLD_BASE_TERMINAL_H

/* Inside base only: messages and the progress line share stderr. Between terminal_lock and
 * terminal_unlock the caller alone writes there. */
void terminal_lock(void);
void terminal_unlock(void);
/* The line that stands at the bottom of the terminal, NULL or "" for none. Call with the lock held;
 * `line` must stay valid until the next call. Draws it over the old one. */
void terminal_set_line(const char *line);

#endif
