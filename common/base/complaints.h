#ifndef CCLD_BASE_COMPLAINTS_H
#define CCLD_BASE_COMPLAINTS_H

/* Warnings about many files. Of those with the same reason, the first ten are printed and the
 * others counted, so that what else is wrong can be seen. Thread-safe. */
struct complaints;

struct complaints *complaints_new(void);
/* Prints the message or counts the reason. */
void complain(struct complaints *c, const char *reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Says how many more files each reason has been given for, followed by `advice`, and frees c, which
 * may be NULL. */
void complaints_end(struct complaints *c, const char *advice);

#endif
