#include "kernels/ref/ref.h"
#include "kernels/training.h"

void ref_square_sums(struct device *d, const struct square_sums_args *a)
{
    for (int64_t begin = 0; begin < a->count; begin += SQUARES_SEGMENT) {
        int64_t n = a->count - begin < SQUARES_SEGMENT ? a->count - begin : SQUARES_SEGMENT;
        a->sums[begin / SQUARES_SEGMENT] = ref_dot(a->x + begin, a->x + begin, n);
    }
}
