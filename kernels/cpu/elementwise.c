#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

#define CHUNK 16384

static void activate_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct activation_args *a = arg;
    cpu_isa()->activation((float *)a->y->data + begin, (const float *)a->x->data + begin,
                          end - begin, a->kind);
}

void cpu_activation(struct device *d, const struct activation_args *a)
{
    parallel_for(tensor_count(a->y), CHUNK, activate_chunk, (void *)a);
}

static void add_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct add_args *a = arg;
    cpu_isa()->add((float *)a->y->data + begin, (const float *)a->a->data + begin,
                   (const float *)a->b->data + begin, end - begin);
}

void cpu_add(struct device *d, const struct add_args *a)
{
    parallel_for(tensor_count(a->y), CHUNK, add_chunk, (void *)a);
}

static void combine_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct linear_combination_args *a = arg;
    const float *x[LINEAR_COMBINATION_MAX];
    for (int i = 0; i < a->count; i++)
        x[i] = (const float *)a->x[i]->data + begin;
    cpu_isa()->combine((float *)a->y->data + begin, a->count, x, a->coefficients, end - begin);
}

void cpu_linear_combination(struct device *d, const struct linear_combination_args *a)
{
    parallel_for(tensor_count(a->y), CHUNK, combine_chunk, (void *)a);
}

static void concat_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct concat_args *a = arg;
    size_t left = (size_t)tensor_last(a->a) * sizeof(float);
    size_t right = (size_t)tensor_last(a->b) * sizeof(float);
    for (int64_t row = begin; row < end; row++) {
        char *y = (char *)a->y->data + (size_t)row * (left + right);
        memcpy(y, (const char *)a->a->data + (size_t)row * left, left);
        memcpy(y + left, (const char *)a->b->data + (size_t)row * right, right);
    }
}

void cpu_concat(struct device *d, const struct concat_args *a)
{
    parallel_for(tensor_rows(a->y), 64, concat_rows, (void *)a);
}
