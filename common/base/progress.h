#ifndef CCLD_BASE_PROGRESS_H
#define CCLD_BASE_PROGRESS_H

#include <stdint.h>

/* A progress line on stderr, redrawn at most ten times a second: label, done of total, rate, time
 * left, then the caller's text. Shown only if stderr is a terminal, and not with -q. */
struct progress;

/* Returns NULL if no progress is shown; the functions below accept that. total < 0: unknown, so no
 * time left is shown. unit is a plural noun, e.g. "images". */
struct progress *progress_start(const char *label, const char *unit, int64_t total);
void progress_set_total(struct progress *p, int64_t total);
/* done is the absolute count; detail may be NULL. Cheap enough to call for every item. */
void progress_update(struct progress *p, int64_t done, const char *detail);
/* Erases the line and frees p. */
void progress_finish(struct progress *p);

/* "1 h 02 min", "3 min 20 s", "12.3 s" into buf; returns buf. */
const char *format_duration(char buf[32], double seconds);
/* "4.7 GB" style, powers of 1000. */
const char *format_bytes(char buf[32], double bytes);
/* "1,174,321,228" */
const char *format_count(char buf[32], int64_t n);
double seconds_now(void); /* monotonic clock */

#endif
