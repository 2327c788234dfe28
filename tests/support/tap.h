#ifndef CCLD_TESTS_TAP_H
#define CCLD_TESTS_TAP_H

#include <stdbool.h>
#include <stddef.h>

/* Test Anything Protocol on stdout, for prove(1). A main runs its tests and returns tap_done(). */
bool tap_ok(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tap_skip(const char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tap_diag(const char *format, ...) __attribute__((format(printf, 1, 2))); /* "# ..." line */
/* Prints the plan. Returns the exit status: 0 if at least one test ran and all passed. */
int tap_done(void);

/* ||a - b|| / ||b|| in double; infinity if any element of either is not finite. */
double relative_l2(const float *a, const float *b, size_t n);
/* max |a - b|; infinity if any element of either is not finite. */
double max_abs_difference(const float *a, const float *b, size_t n);

/* A new folder under $TMPDIR, removed with its contents at exit. */
const char *test_folder(void);

#endif
