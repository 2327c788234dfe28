#include "common/base/rng.h"
#include "kernels/ref/ref.h"
#include "kernels/training.h"

static void rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct normals_args *a = arg;
    int64_t n = a->y->shape[0], count = n ? tensor_count(a->y) / n : 0;
    CHECK(a->draws->dtype == DTYPE_I64);
    const int64_t *draws = a->draws->data;
    for (int64_t i = begin; i < end; i++)
        rng_normal(ref_f32(a->y) + i * count, (size_t)count, a->seed, (enum rng_purpose)a->purpose,
                   (uint32_t)draws[2 * i + 1], (uint64_t)draws[2 * i], 0);
}

void ref_normals(struct device *d, const struct normals_args *a)
{
    parallel_for(a->y->shape[0], 1, rows, (void *)a);
}
