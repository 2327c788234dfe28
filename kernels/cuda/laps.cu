/* Times of ops and of their parts, by events in the device's stream. */
#include "kernels/cuda/internal.cuh"

#define PART_ONLY (-1) /* in place of a key: the op goes on */

struct lap {
    cudaEvent_t at;
    int key;
    enum op_part part;
};

/* Events stay for later laps. */
struct laps {
    struct lap *items;
    int count, made;
};

static void take(struct device *d, int key, enum op_part part)
{
    struct laps *l = cuda_of(d)->laps;
    if (cuda_of(d)->recording)
        return;
    if (l->count == l->made) {
        const int more = l->made ? 2 * l->made : 1024;
        l->items = (struct lap *)realloc(l->items, (size_t)more * sizeof *l->items);
        if (!l->items)
            plugin_host->die("out of memory");
        for (; l->made < more; l->made++)
            cuda_check(cudaEventCreate(&l->items[l->made].at));
    }
    struct lap *lap = &l->items[l->count++];
    lap->key = key;
    lap->part = part;
    cuda_check(cudaEventRecord(lap->at, stream_of(d)));
}

void cuda_lap(struct device *d, int key)
{
    struct cuda_device *cuda = cuda_of(d);
    if (!cuda->laps)
        cuda->laps = (struct laps *)calloc(1, sizeof *cuda->laps);
    if (!cuda->laps)
        plugin_host->die("out of memory");
    take(d, key, PART_OTHER);
}

void lap_of_part(struct device *d, enum op_part part)
{
    if (cuda_of(d)->laps)
        take(d, PART_ONLY, part);
}

void cuda_laps(struct device *d, double (*seconds)[PART_COUNT])
{
    struct laps *l = cuda_of(d)->laps;
    d->backend->synchronize(d);
    int key = PART_ONLY;
    /* Backward: the key of a part is that of the op's end. */
    for (int i = l ? l->count - 1 : 0; i > 0; i--) {
        float milliseconds = 0;
        if (l->items[i].key != PART_ONLY)
            key = l->items[i].key;
        cuda_check(cudaEventElapsedTime(&milliseconds, l->items[i - 1].at, l->items[i].at));
        if (key != PART_ONLY)
            seconds[key][l->items[i].part] += milliseconds * 1e-3;
    }
    if (l)
        l->count = 0;
}

void laps_free(struct laps *l)
{
    if (!l)
        return;
    for (int i = 0; i < l->made; i++)
        cuda_check(cudaEventDestroy(l->items[i].at));
    free(l->items);
    free(l);
}
