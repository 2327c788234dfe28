#ifndef CCLD_BASE_ERROR_H
#define CCLD_BASE_ERROR_H

/* The reason for a failure, filled in by the function that failed. The caller that knows what was
 * being done adds that and prints it: in `cannot read 'x.jpg': truncated JPEG`, the callee wrote
 * "truncated JPEG". Owns no memory; each call chain has one on its stack, so it is thread-safe. */
struct error {
    char text[480];
};

/* Fills e (which may be NULL) and returns -1, so that `return error_set(e, ...)` reads well. */
int error_set(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As error_set, followed by ": " and the message for errno. */
int error_errno(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Inserts the formatted text and ": " before the reason already in e. Returns -1. */
int error_prefix(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
