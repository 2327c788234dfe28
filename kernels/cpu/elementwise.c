#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define CHUNK 16384

static void activate_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct activation_args *a = arg;
    float x[ROWS_BUFFER], y[ROWS_BUFFER];
    for (int64_t i = begin, n; i < end; i += n) {
        n = rows_step(a->x, end - i);
        float *to = row_begin(a->y, i, y);
        cpu_isa()->activation(to, row_read(a->x, i, n, x), n, a->kind);
        row_written(a->y, i, n, to);
    }
}

void cpu_activation(struct device *d, const struct activation_args *a)
{
    parallel_for(tensor_count(a->y), CHUNK, activate_chunk, (void *)a);
}

static void add_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct add_args *a = arg;
    float left[ROWS_BUFFER], right[ROWS_BUFFER], y[ROWS_BUFFER];
    for (int64_t i = begin, n; i < end; i += n) {
        n = rows_step(a->y, end - i);
        float *to = row_begin(a->y, i, y);
        cpu_isa()->add(to, row_read(a->a, i, n, left), row_read(a->b, i, n, right), n);
        row_written(a->y, i, n, to);
    }
}

void cpu_add(struct device *d, const struct add_args *a)
{
    parallel_for(tensor_count(a->y), CHUNK, add_chunk, (void *)a);
}

static void cast_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct cast_args *a = arg;
    int64_t n = end - begin;
    if (a->y->dtype == a->x->dtype)
        memcpy(element_of(a->y, begin), element_of(a->x, begin),
               (size_t)n * dtype_size(a->x->dtype));
    else if (a->y->dtype == DTYPE_F32)
        row_read(a->x, begin, n, (float *)a->y->data + begin);
    else if (a->y->dtype == DTYPE_BF16)
        row_written(a->y, begin, n, (const float *)a->x->data + begin);
    else
        dtype_from_f32(a->y->dtype, element_of(a->y, begin), (const float *)a->x->data + begin,
                       (size_t)n);
}

void cpu_cast(struct device *d, const struct cast_args *a)
{
    parallel_for(tensor_count(a->y), CHUNK, cast_chunk, (void *)a);
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
    size_t size = dtype_size(a->y->dtype);
    size_t left = (size_t)tensor_last(a->a) * size, right = (size_t)tensor_last(a->b) * size;
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
