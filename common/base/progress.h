#ifndef CCLD_BASE_PROGRESS_H
#define CCLD_BASE_PROGRESS_H

#include <stdint.h>

/* A progress line on stderr: label, done of total, after a second rate and time left, then the
 * caller's text. On a terminal it is redrawn at most ten times a second; elsewhere, a message a
 * minute, or every $CCLD_PROGRESS seconds (0: none). Not shown with -q. */
struct progress;

/* Returns NULL if no progress is shown; the functions below accept that. total < 0: unknown, so no
 * time left is shown. unit is a plural noun, e.g. "images". Without a label, the line starts with
 * the caller's text instead of label and count, and says if there is no total. */
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
