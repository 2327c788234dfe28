#include "common/score/embeddings.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"

void embeddings_add(struct embeddings *x, const float *row, const char *path)
{
    if (x->count == x->capacity) {
        x->capacity = x->capacity ? 2 * x->capacity : 256;
        x->values = xrealloc(x->values, (size_t)(x->capacity * x->width) * sizeof *x->values);
        x->paths = xrealloc(x->paths, (size_t)x->capacity * sizeof *x->paths);
    }
    float *to = x->values + x->count * x->width;
    double square = 0;
    for (int64_t i = 0; i < x->width; i++)
        square += (double)row[i] * row[i];
    double scale = square > 0 ? 1 / sqrt(square) : 1;
    for (int64_t i = 0; i < x->width; i++)
        to[i] = (float)(row[i] * scale);
    x->paths[x->count++] = path ? xstrdup(path) : NULL;
}

int embeddings_check(const struct embeddings *x, const char *what, struct error *e)
{
    for (int64_t i = 0; i < x->count; i++) {
        const float *row = x->values + i * x->width;
        double square = 0;
        for (int64_t j = 0; j < x->width; j++)
            square += (double)row[j] * row[j];
        const char *fault = !isfinite(square) ? "not finite" : square == 0 ? "zero" : NULL;
        if (fault && x->paths[i])
            return error_set(e, "the embedding of '%s' is %s", x->paths[i], fault);
        if (fault)
            return error_set(e, "the embedding of %s %" PRId64 " is %s", what, i + 1, fault);
    }
    return 0;
}

void embeddings_release(struct embeddings *x)
{
    for (int64_t i = 0; i < x->count; i++)
        free(x->paths[i]);
    free(x->paths);
    free(x->values);
    *x = (struct embeddings){0};
}

double embeddings_cosine(const float *a, const float *b, int64_t width)
{
    double sum = 0;
    for (int64_t i = 0; i < width; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

double embeddings_distance2(const float *a, const float *b, int64_t width)
{
    double sum = 0;
    for (int64_t i = 0; i < width; i++) {
        double difference = (double)a[i] - b[i];
        sum += difference * difference;
    }
    return sum;
}
