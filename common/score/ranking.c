#include "common/score/ranking.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

static void ranked_release(struct ranked *item)
{
    image_release(&item->image);
    image_remarks_release(&item->remarks);
}

static void add_groups(struct ranking *r, int groups)
{
    if (groups <= r->groups)
        return;
    r->items = xrealloc(r->items, (size_t)groups * sizeof *r->items);
    r->counts = xrealloc(r->counts, (size_t)groups * sizeof *r->counts);
    for (; r->groups < groups; r->groups++) {
        r->items[r->groups] = NULL;
        r->counts[r->groups] = 0;
    }
}

void ranking_offer(struct ranking *r, int group, double score, struct image *image,
                   struct image_remarks *remarks)
{
    add_groups(r, group + 1);
    struct ranked *items = r->items[group], item = {score, *image, *remarks};
    int place = r->counts[group];
    while (place > 0 && items[place - 1].score < score)
        place--;
    if (place == r->most) {
        ranked_release(&item);
        return;
    }
    if (r->counts[group] < r->most)
        items = r->items[group] = xrealloc(items, (size_t)++r->counts[group] * sizeof *items);
    else
        ranked_release(&items[r->most - 1]);
    memmove(items + place + 1, items + place,
            (size_t)(r->counts[group] - place - 1) * sizeof *items);
    items[place] = item;
}

void ranking_release(struct ranking *r)
{
    for (int g = 0; g < r->groups; g++) {
        for (int i = 0; i < r->counts[g]; i++)
            ranked_release(&r->items[g][i]);
        free(r->items[g]);
    }
    free(r->items);
    free(r->counts);
    *r = (struct ranking){.most = r->most};
}
