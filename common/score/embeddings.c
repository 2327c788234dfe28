#include "common/score/embeddings.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* Partial sums, which vector units compute together; their number does not depend on the machine.
 */
#define LANES 8
typedef float narrow_lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));

double embeddings_cosine(const float *a, const float *b, int64_t width)
{
    int64_t whole = width / LANES * LANES;
    lanes sums = {0};
    for (int64_t i = 0; i < whole; i += LANES) {
        narrow_lanes x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        sums += __builtin_convertvector(x, lanes) * __builtin_convertvector(y, lanes);
    }
    double sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += sums[i];
    for (int64_t i = whole; i < width; i++)
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
