#include "tests/support/weight_copy.h"

#include <string.h>

struct copying {
    uint8_t *dst;
    size_t size;
};

static int copy_run(void *arg, const void *data, size_t count)
{
    struct copying *c = arg;
    memcpy(c->dst, data, count * c->size);
    c->dst += count * c->size;
    return 0;
}

void weight_copy(const struct weight *t, void *dst)
{
    struct copying c = {dst, dtype_size(t->dtype)};
    weight_stream(t, copy_run, &c);
}
