#include "tests/support/trained.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/support/tap.h"

static size_t bytes_of(const struct parameters *p)
{
    return (size_t)p->trained_elements * sizeof(float);
}

const float *trained_values(const struct parameters *p, enum parameter_array which)
{
    return parameters_read(p, which, 0, p->trained_elements, NULL);
}

bool trained_same_bits(const struct parameters *a, const struct parameters *b,
                       enum parameter_array which)
{
    return memcmp(trained_values(a, which), trained_values(b, which), bytes_of(a)) == 0;
}

double trained_distance(const struct parameters *a, const struct parameters *b,
                        enum parameter_array which)
{
    return relative_l2(trained_values(a, which), trained_values(b, which),
                       (size_t)a->trained_elements);
}

void snapshot_take(struct snapshot *s, const struct parameters *p)
{
    *s = (struct snapshot){0};
    for (int i = 0; i < ARRAY_COUNT; i++)
        if (i != ARRAY_GRADIENTS)
            s->arrays[i] = memcpy(xmalloc(bytes_of(p)), trained_values(p, i), bytes_of(p));
}

bool snapshot_matches(const struct snapshot *s, const struct parameters *p)
{
    for (int i = 0; i < ARRAY_COUNT; i++)
        if (s->arrays[i] && memcmp(s->arrays[i], trained_values(p, i), bytes_of(p)) != 0)
            return false;
    return true;
}

void snapshot_release(struct snapshot *s)
{
    for (int i = 0; i < ARRAY_COUNT; i++)
        free(s->arrays[i]);
}
