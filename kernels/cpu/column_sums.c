#include "kernels/cpu/column_sums.h"

#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/rows.h"

#define CHUNK_ELEMENTS 65536

struct job {
    const struct tensor *x;
    int64_t rows, columns, chunk_rows;
    double *partial; /* [chunks][2][columns]: sums, squares (not used) */
    float *zeros;
    float *buffers; /* [PART_ROWS][columns] per worker, of BF16 */
};

#define PART_ROWS 16

static void sum_chunks(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t first = i * j->chunk_rows;
        int64_t count = j->rows - first < j->chunk_rows ? j->rows - first : j->chunk_rows;
        double *sums = j->partial + i * 2 * j->columns;
        memset(sums, 0, (size_t)(2 * j->columns) * sizeof *sums);
        int64_t part = j->x->dtype == DTYPE_F32 ? count : PART_ROWS;
        for (int64_t done = 0; done < count; done += part) {
            int64_t some = count - done < part ? count - done : part;
            const float *x = row_read(j->x, (first + done) * j->columns, some * j->columns,
                                      j->buffers + worker * PART_ROWS * j->columns);
            cpu_isa()->channel_moments(x, some, j->columns, j->zeros, sums, sums + j->columns);
        }
    }
}

void cpu_column_sums(struct device *d, float *sums, const struct tensor *x)
{
    int64_t rows = tensor_rows(x), columns = tensor_last(x);
    if (rows == 0 || columns == 0)
        return;
    struct job j = {.x = x, .rows = rows, .columns = columns};
    j.chunk_rows = (CHUNK_ELEMENTS + columns - 1) / columns;
    int64_t chunks = (rows + j.chunk_rows - 1) / j.chunk_rows;
    size_t granted, partial = (size_t)(chunks * 2 * columns) * sizeof(double);
    int64_t buffers = x->dtype == DTYPE_F32 ? 0 : threads_count() * PART_ROWS * columns;
    j.partial = device_allocate(d, partial + (size_t)(columns + buffers) * sizeof(float), &granted);
    j.zeros = (float *)((char *)j.partial + partial);
    j.buffers = j.zeros + columns;
    memset(j.zeros, 0, (size_t)columns * sizeof(float));
    parallel_for(chunks, 1, sum_chunks, &j);
    for (int64_t i = 0; i < columns; i++) {
        double total = 0;
        for (int64_t k = 0; k < chunks; k++)
            total += j.partial[k * 2 * columns + i];
        sums[i] += (float)total;
    }
    device_release(d, j.partial, granted);
}
