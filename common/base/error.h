#ifndef CCLD_BASE_ERROR_H
#define CCLD_BASE_ERROR_H

/* A reason for failure, filled by the function that failed and printed by whoever knows what was
 * being done: `cannot read 'x.jpg': truncated JPEG` is "cannot read '%s': %s" of the caller and
 * "truncated JPEG" of the callee. Plain memory, no ownership: one on the caller's stack per call
 * chain, so it is safe with threads. */
struct error {
    char text[480];
};

/* Fills e (which may be NULL) and returns -1, so that `return error_set(e, ...)` reads well. */
int error_set(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As error_set, with ": " and the text of errno at the end. */
int error_errno(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts what the format says, and ": ", before the reason already in e. Returns -1. */
int error_prefix(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
