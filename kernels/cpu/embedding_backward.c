#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

#define COLUMNS 64 /* summed at once */

/* The position of a token in the batch. */
struct place {
    int32_t token;
    int64_t row;
};

struct job {
    const struct embedding_backward_args *a;
    const struct place *places; /* by token, then row: the order of ref's sums */
    int64_t count;
};

static int by_token(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    if (a->token != b->token)
        return a->token < b->token ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static void add_columns(const struct job *j, int64_t first, int64_t n)
{
    int64_t width = tensor_last(j->a->dtable);
    double sum[COLUMNS];
    for (int64_t at = 0; at < j->count;) {
        int32_t token = j->places[at].token;
        float *slot = (float *)j->a->dtable->data + token * width + first;
        for (int64_t i = 0; i < n; i++)
            sum[i] = slot[i];
        for (; at < j->count && j->places[at].token == token; at++) {
            const float *dy = (const float *)j->a->dy->data + j->places[at].row * width + first;
            for (int64_t i = 0; i < n; i++)
                sum[i] += dy[i];
        }
        for (int64_t i = 0; i < n; i++)
            slot[i] = (float)sum[i];
    }
}

static void add_part(void *arg, int64_t begin, int64_t end, int worker)
{
    add_columns(arg, begin, end - begin);
}

void cpu_embedding_backward(struct device *d, const struct embedding_backward_args *a)
{
    if (!a->dtable)
        return;
    const int32_t *tokens = a->forward.tokens->data;
    int64_t count = tensor_count(a->forward.tokens);
    struct place *places = xmalloc((size_t)count * sizeof *places);
    for (int64_t i = 0; i < count; i++)
        places[i] = (struct place){tokens[i], i};
    qsort(places, (size_t)count, sizeof *places, by_token);
    struct job j = {a, places, count};
    parallel_for(tensor_last(a->dtable), COLUMNS, add_part, &j);
    free(places);
}
