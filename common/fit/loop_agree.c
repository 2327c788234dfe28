#include <inttypes.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "common/fit/loop_internal.h"
#include "common/train/watchdog.h"

#define TOLD_AT_ONCE 64 /* unreadable records that a rank tells the others of */

bool loop_is_first_rank(const struct loop *l)
{
    return l->f->collective->rank == 0;
}

bool fit_stop_requested(const struct fit_loop *f)
{
    double requested = *f->stop != 0;
    collective_sum(f->collective, &requested, 1);
    if (requested > 0)
        watchdog_stopping();
    return requested > 0;
}

int fit_agree(const struct fit_loop *f, int status, struct error *e)
{
    struct collective *c = f->collective;
    int *all = xcalloc((size_t)c->size, sizeof *all), first = 0;
    struct error why = {""};
    collective_gather(c, &status, all, sizeof status);
    while (first < c->size && all[first] == 0)
        first++;
    free(all);
    if (first == c->size)
        return 0;
    if (first == c->rank)
        why = *e;
    collective_broadcast(c, first, &why, sizeof why);
    return error_set(e, "%s", why.text);
}

/* Tells all ranks of the records that one of them could not read. Fails on all of them if these are
 * too many. */
static int share_unreadable(struct loop *l, struct error *e)
{
    const struct fit_loop *f = l->f;
    struct unreadable *u = f->functions->unreadable(l->trainee);
    int ranks = f->collective->size;
    int64_t own[1 + TOLD_AT_ONCE] = {0};
    int64_t *all = xcalloc((size_t)ranks, sizeof own), *of_rank = all;
    own[0] = unreadable_take(u, own + 1, TOLD_AT_ONCE);
    collective_gather(f->collective, own, all, sizeof own);
    for (int r = 0; r < ranks; r++, of_rank += 1 + TOLD_AT_ONCE)
        for (int64_t i = 0; i < of_rank[0]; i++)
            unreadable_agree(u, of_rank[1 + i]);
    free(all);
    int64_t count = unreadable_agreed(u), records = f->order->records;
    if (count <= FIT_UNREADABLE_ALWAYS ||
        (double)count <= f->options.max_unreadable * (double)records)
        return 0;
    return error_set(e,
                     "%" PRId64 " of %" PRId64 " image%s cannot be read, more than "
                     "--max-unreadable %g allows",
                     count, records, plural(records), f->options.max_unreadable);
}

int loop_agree(struct loop *l, int read, struct error *e)
{
    const struct fit_loop *f = l->f;
    struct unreadable *u = f->functions->unreadable(l->trainee);
    double sums[] = {*f->stop != 0, read != 0, (double)unreadable_waiting(u)};
    collective_sum(f->collective, sums, 3);
    if (sums[2] > 0 && share_unreadable(l, e) != 0)
        return -1;
    if (sums[1] > 0)
        return fit_agree(f, read, e);
    if (sums[0] > 0)
        watchdog_stopping();
    return sums[0] > 0;
}
