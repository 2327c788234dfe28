#ifndef CCLD_BASE_MESSAGE_H
#define CCLD_BASE_MESSAGE_H

#include <stddef.h>

/* Messages go to stderr, one line each, as `PROGRAM: text`. A progress line on the terminal is
 * erased first and redrawn afterwards. Control characters are escaped (escape.h). All functions are
 * thread-safe. */

enum verbosity { VERBOSITY_QUIET = -1, VERBOSITY_NORMAL = 0, VERBOSITY_VERBOSE = 1 };

/* Sets the program name that messages begin with: the last component of argv0. */
void message_init(const char *argv0);
void message_set_verbosity(enum verbosity v);
enum verbosity message_verbosity(void);

void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));   /* always printed */
void inform(const char *format, ...) __attribute__((format(printf, 1, 2))); /* unless -q */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));   /* only with -v */

/* Print a message and exit with status 1 (failure) or 2 (usage, with a hint at --help). */
/* noreturn as an attribute, so that clang takes a pointer to it for one that does not return. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
_Noreturn void die_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the three parts as one message and ends the program with status 1 at once: for signal
 * handlers. */
_Noreturn void die_in_handler(const char *before, const char *name, const char *after);

/* For violated invariants: prints file and line, then aborts. Never compiled out. */
_Noreturn void check_failed(const char *file, int line, const char *what);
#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))

/* Allocation that never returns NULL: calls die() if memory is exhausted. Freed with free(). */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
/* p itself, or die() if it is NULL: what a library allocates and returns. cJSON, whose functions
 * leave out of a document what they have no memory for, calls xmalloc. */
void *xallocated(void *p);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Appends to *text, which is malloc'ed, or NULL for an empty one. */
void xappend(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
