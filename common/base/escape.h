#ifndef CCLD_BASE_ESCAPE_H
#define CCLD_BASE_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Control characters in names and texts from outside could move the cursor of a terminal, or split
 * a line in two. They are printed as \n, \t and \r, others as three octal digits per byte (\033),
 * as `ls -b` does. Control characters are the bytes 0x01 to 0x1f, 0x7f and U+0080 to U+009f. */

#define ESCAPE_MAX 8 /* bytes of one escaped character */

/* Stores the escaped form of the byte or control character at *s in out, without a zero, and moves
 * *s behind it; *s is not at the end of the string. Returns the number of bytes stored. If
 * `reversible`, a backslash is escaped, too. Safe in signal handlers. */
size_t escape_next(char out[ESCAPE_MAX], const char **s, bool reversible);

/* Escapes a whole line for a message, so that a backslash remains; malloc'ed, or NULL if there is
 * nothing to escape (or no memory). */
char *escape_line(const char *text);

/* Prints to f so that the original can be recovered, for tables that programs read: a backslash
 * becomes \\. */
void escape_print(FILE *f, const char *text);

#endif
