#include "kernels/host_product.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"

/* Rows and columns of c that are accumulated in registers. */
#define ROWS    4
#define COLUMNS 4
#define GRAIN   4 /* blocks of rows in a unit of work for a thread */

struct job {
    const struct host_product *p;
    double *columns; /* B in blocks of COLUMNS columns, each [k, COLUMNS], padded with zeros */
};

/* Element (row, i) of A. */
static double element_of_a(const struct host_product *p, int64_t row, int64_t i)
{
    return p->a_transposed ? p->a[i * p->m + row] : p->a[row * p->k + i];
}

static double element_of_b(const struct host_product *p, int64_t i, int64_t column)
{
    return p->b_transposed ? p->b[column * p->k + i] : p->b[i * p->n + column];
}

static void pack_columns(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *job = arg;
    const struct host_product *p = job->p;
    for (int64_t block = begin; block < end; block++) {
        double *to = job->columns + block * p->k * COLUMNS;
        int64_t first = block * COLUMNS;
        int64_t used = p->n - first < COLUMNS ? p->n - first : COLUMNS;
        for (int64_t i = 0; i < p->k; i++)
            for (int64_t j = 0; j < COLUMNS; j++)
                to[i * COLUMNS + j] = j < used ? element_of_b(p, i, first + j) : 0;
    }
}

typedef double lanes __attribute__((vector_size(16)));
#define LANES ((int)(sizeof(lanes) / sizeof(double)))

/* rows: [k, ROWS], columns: [k, COLUMNS]. */
static void multiply_block(double sums[ROWS][COLUMNS], const double *rows, const double *columns,
                           int64_t k)
{
    lanes s[ROWS][COLUMNS / LANES] = {{{0}}};
    for (int64_t i = 0; i < k; i++, rows += ROWS, columns += COLUMNS) {
        lanes column[COLUMNS / LANES];
        memcpy(column, columns, sizeof column);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
            for (int j = 0; j < COLUMNS / LANES; j++)
                s[r][j] += rows[r] * column[j];
    }
    memcpy(sums, s, sizeof s);
}

static void multiply_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *job = arg;
    const struct host_product *p = job->p;
    double *rows = xmalloc((size_t)(ROWS * p->k + 1) * sizeof *rows), sums[ROWS][COLUMNS];
    for (int64_t block = begin; block < end; block++) {
        int64_t first = block * ROWS, used = p->m - first < ROWS ? p->m - first : ROWS;
        for (int64_t i = 0; i < p->k; i++)
            for (int64_t r = 0; r < ROWS; r++)
                rows[i * ROWS + r] = r < used ? element_of_a(p, first + r, i) : 0;
        for (int64_t j = 0; j < p->n; j += COLUMNS) {
            int64_t wide = p->n - j < COLUMNS ? p->n - j : COLUMNS;
            multiply_block(sums, rows, job->columns + j * p->k, p->k);
            for (int64_t r = 0; r < used; r++)
                for (int64_t i = 0; i < wide; i++) {
                    double *c = p->c + (first + r) * p->n + j + i;
                    *c = p->scale * sums[r][i] + (p->add ? *c : 0);
                }
        }
    }
    free(rows);
}

void host_product(const struct host_product *p)
{
    int64_t blocks = (p->n + COLUMNS - 1) / COLUMNS;
    double *columns = xmalloc((size_t)(blocks * COLUMNS * p->k + 1) * sizeof *columns);
    struct job job = {p, columns};
    parallel_for(blocks, GRAIN, pack_columns, &job);
    parallel_for((p->m + ROWS - 1) / ROWS, GRAIN, multiply_rows, &job);
    free(columns);
}
