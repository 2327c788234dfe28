#include "common/score/distances.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/data/order.h"

static int check(const struct embeddings *x, const char *what, const char *plural_what,
                 struct error *e)
{
    if (x->count <= NEIGHBOURS_DENSE)
        return error_set(e, "%" PRId64 " %s: at least %d are needed", x->count,
                         x->count == 1 ? what : plural_what, NEIGHBOURS_DENSE + 1);
    return embeddings_check(x, what, e);
}

static int64_t *shuffled(int64_t count, uint64_t seed)
{
    int64_t *places = xmalloc((size_t)count * sizeof *places);
    struct order order;
    order_init(&order, count, 0);
    for (int64_t i = 0; i < count; i++)
        places[i] = order_record_at(&order, seed, 0, i);
    order_release(&order);
    return places;
}

int distances_measure(struct distances *out, struct tape *t, const struct embeddings *samples,
                      const struct embeddings *reference, uint64_t seed, struct error *e)
{
    if (samples->width != reference->width)
        return error_set(e,
                         "embeddings of samples have %" PRId64 " numbers, those of the reference "
                         "%" PRId64,
                         samples->width, reference->width);
    if (check(samples, "sample", "samples", e) != 0 ||
        check(reference, "image of the reference", "images of the reference", e) != 0)
        return -1;
    *out = (struct distances){.samples = samples->count, .reference = reference->count};
    int64_t *order = shuffled(samples->count, seed);
    frechet_measure(&out->frechet, samples, order, reference);
    free(order);
    kernel_distance_measure(&out->kernel, t, samples, reference, seed);
    neighbours_measure(&out->neighbours, t, samples, reference);
    return 0;
}

void distances_release(struct distances *d)
{
    free(d->neighbours.nearest);
    free(d->neighbours.distance2);
    *d = (struct distances){0};
}
