#ifndef CCLD_BASE_MESSAGE_H
#define CCLD_BASE_MESSAGE_H

#include <stddef.h>

/* Everything for people goes to stderr, one line each, as `PROGRAM: text`. A progress line that is
 * on the terminal is erased first and drawn again afterwards. All functions are thread-safe. */

enum verbosity { VERBOSITY_QUIET = -1, VERBOSITY_NORMAL = 0, VERBOSITY_VERBOSE = 1 };

/* Sets the program's name, as messages print it (a path's last component), and unblocks output. */
void message_init(const char *argv0);
void message_set_verbosity(enum verbosity v);
enum verbosity message_verbosity(void);

void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));   /* always */
void inform(const char *format, ...) __attribute__((format(printf, 1, 2))); /* not with -q */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));   /* with -v only */

/* warn() and exit: status 1 (the work failed) or 2 (usage). */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A broken promise inside the program: prints file and line, then aborts. Never compiled out. */
_Noreturn void check_failed(const char *file, int line, const char *what);
#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))

/* Memory that is never NULL: dies with one line when there is none. Freed with free(). */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
