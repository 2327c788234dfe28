#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

#define CHUNK 16384

static void activation_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct activation_backward_args *a = arg;
    cpu_isa()->activation_backward(
        (float *)a->dx->data + begin, (const float *)a->forward.x->data + begin,
        (const float *)a->dy->data + begin, end - begin, a->forward.kind);
}

void cpu_activation_backward(struct device *d, const struct activation_backward_args *a)
{
    parallel_for(tensor_count(a->dy), CHUNK, activation_chunk, (void *)a);
}

static void concat_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct concat_backward_args *a = arg;
    int64_t width = tensor_last(a->dy), right = a->db ? tensor_last(a->db) : 0;
    int64_t left = a->da ? tensor_last(a->da) : width - right;
    right = width - left;
    for (int64_t row = begin; row < end; row++) {
        const float *dy = (const float *)a->dy->data + row * width;
        if (a->da)
            memcpy((float *)a->da->data + row * left, dy, (size_t)left * sizeof *dy);
        if (a->db)
            memcpy((float *)a->db->data + row * right, dy + left, (size_t)right * sizeof *dy);
    }
}

void cpu_concat_backward(struct device *d, const struct concat_backward_args *a)
{
    parallel_for(tensor_rows(a->dy), 64, concat_rows, (void *)a);
}

#define STEP_CHUNK 65536

static void adamw_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    cpu_isa()->adamw(arg, begin, end);
}

void cpu_adamw(struct device *d, const struct adamw_args *a)
{
    parallel_for(a->count, STEP_CHUNK, adamw_chunk, (void *)a);
}

static void fill_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct fill_args *a = arg;
    if (a->value == 0 && !signbit(a->value)) {
        memset(a->x + begin, 0, (size_t)(end - begin) * sizeof *a->x);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        a->x[i] = a->value;
}

void cpu_fill(struct device *d, const struct fill_args *a)
{
    parallel_for(a->count, STEP_CHUNK, fill_chunk, (void *)a);
}

static void square_sums_of(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct square_sums_args *a = arg;
    a->sums[begin / SQUARES_SEGMENT] = cpu_isa()->sum_squares(a->x + begin, end - begin);
}

void cpu_square_sums(struct device *d, const struct square_sums_args *a)
{
    parallel_for(a->count, SQUARES_SEGMENT, square_sums_of, (void *)a);
}
