#include "kernels/ref/ref.h"
#include "kernels/training.h"

/* x with compact parts as F32, in the order of their memory; the caller frees it. */
static float *with_compact(const struct square_sums_args *a)
{
    float *x = xmalloc((size_t)a->count * sizeof *x);
    memcpy(x, a->x, (size_t)a->count * sizeof *x);
    for (int64_t k = 0; k < a->copies->count; k++) {
        const struct update_copy *c = (const struct update_copy *)a->copies->table->data + k;
        if (c->gradient)
            dtype_to_f32(x + c->first, (enum dtype)c->dtype, c->gradient, (size_t)c->count);
    }
    return x;
}

void ref_square_sums(struct device *d, const struct square_sums_args *a)
{
    float *compact = a->copies ? with_compact(a) : NULL;
    const float *x = compact ? compact : a->x;
    for (int64_t begin = 0; begin < a->count; begin += SQUARES_SEGMENT) {
        int64_t n = a->count - begin < SQUARES_SEGMENT ? a->count - begin : SQUARES_SEGMENT;
        a->sums[begin / SQUARES_SEGMENT] = ref_dot(x + begin, x + begin, n);
    }
    free(compact);
}
