#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define CHUNK 16384

static void activation_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct activation_backward_args *a = arg;
    float buffers[3][ROWS_BUFFER];
    for (int64_t i = begin, n; i < end; i += n) {
        n = rows_step(a->dx, end - i);
        float *dx = row_begin(a->dx, i, buffers[0]);
        cpu_isa()->activation_backward(dx, row_read(a->forward.x, i, n, buffers[1]),
                                       row_read(a->dy, i, n, buffers[2]), n, a->forward.kind);
        row_written(a->dx, i, n, dx);
    }
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
    size_t size = dtype_size(a->dy->dtype);
    for (int64_t row = begin; row < end; row++) {
        if (a->da)
            memcpy(element_of(a->da, row * left), element_of(a->dy, row * width),
                   (size_t)left * size);
        if (a->db)
            memcpy(element_of(a->db, row * right), element_of(a->dy, row * width + left),
                   (size_t)right * size);
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

static void moving_average_chunk(void *arg, int64_t begin, int64_t end, int worker)
{
    cpu_isa()->moving_average(arg, begin, end);
}

void cpu_moving_average(struct device *d, const struct moving_average_args *a)
{
    parallel_for(a->count, STEP_CHUNK, moving_average_chunk, (void *)a);
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
