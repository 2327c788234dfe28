#ifndef CCLD_DATA_UNREADABLE_H
#define CCLD_DATA_UNREADABLE_H

#include <stdbool.h>
#include <stdint.h>

/* The records of a data set that could not be read: damaged ones of a shard store, image files that
 * are missing or not images. Others take their places in training.
 *
 * A record is known once a thread has failed to read it, which may be ahead of training; met when a
 * batch that lacks it is trained on, which depends only on the data; and agreed on when all ranks
 * have been told. Any thread may call any function. */
struct unreadable;

struct unreadable *unreadable_new(int64_t records);
void unreadable_free(struct unreadable *u); /* NULL is fine */

/* Makes it known. true: it was not before. */
bool unreadable_add(struct unreadable *u, int64_t record);
bool unreadable_has(const struct unreadable *u, int64_t record);

/* Those that a batch lacks; starts zeroed. */
struct unreadable_list {
    int64_t *items;
    int64_t count, capacity;
};
void unreadable_list_add(struct unreadable_list *l, int64_t record);
void unreadable_list_release(struct unreadable_list *l);

void unreadable_meet(struct unreadable *u, int64_t record);
void unreadable_meet_all(struct unreadable *u, const struct unreadable_list *l);
/* Removes the oldest, at most `most`, of those met but not agreed on. Returns their number. */
int unreadable_take(struct unreadable *u, int64_t *records, int most);
int64_t unreadable_waiting(struct unreadable *u);            /* how many there are to take */
void unreadable_agree(struct unreadable *u, int64_t record); /* makes it known, too */
int64_t unreadable_agreed(const struct unreadable *u);       /* the number of those agreed on */

#endif
