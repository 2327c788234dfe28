#ifndef CCLD_DATA_UNREADABLE_H
#define CCLD_DATA_UNREADABLE_H

#include <stdbool.h>
#include <stdint.h>

/* The records of a data set that could not be read: damaged ones of a shard store, image files that
 * are missing or no images. Training goes on with others in their place. Several ranks find
 * different ones; those that all have been told of are agreed on. Any thread may call any function.
 */
struct unreadable;

struct unreadable *unreadable_new(int64_t records);
void unreadable_free(struct unreadable *u); /* NULL is fine */

/* true: it was not known as unreadable before. */
bool unreadable_add(struct unreadable *u, int64_t record);
bool unreadable_has(const struct unreadable *u, int64_t record);

/* The oldest of those that unreadable_add has added and this function has not returned before; at
 * most `most`. Returns their number. */
int unreadable_take(struct unreadable *u, int64_t *records, int most);
int64_t unreadable_waiting(struct unreadable *u); /* the number of those it would return */
/* All ranks know of this record now. It also counts as added, but is never taken. */
void unreadable_agree(struct unreadable *u, int64_t record);
int64_t unreadable_agreed(const struct unreadable *u); /* their number, the same on all ranks */

#endif
