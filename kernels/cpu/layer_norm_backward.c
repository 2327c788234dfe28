#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define CHUNK_ROWS 64

struct job {
    const struct layer_norm_backward_args *a;
    double *partial; /* [chunks][2][n]: gradients of gamma and beta */
    float *buffers;  /* [3][n] per worker, of BF16 */
};

/* t = (x - mean)*inverse; dx = inverse * (g - mean of g - t * mean of g*t), g = gamma*dy. */
static void backward_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct layer_norm_args *f = &j->a->forward;
    int64_t n = tensor_last(f->x);
    const float *gamma = f->gamma->data;
    double *by_gamma = j->partial + begin / CHUNK_ROWS * 2 * n, *by_beta = by_gamma + n;
    memset(by_gamma, 0, (size_t)(2 * n) * sizeof *by_gamma);
    for (int64_t row = begin; row < end; row++) {
        float *buffer = j->buffers + worker * 3 * n;
        const float *x = row_read(f->x, row * n, n, buffer);
        const float *dy = row_read(j->a->dy, row * n, n, buffer + n);
        double sum, squares;
        cpu_isa()->moments(x, n, x[0], &sum, &squares);
        float center = (float)(x[0] + sum / (double)n);
        cpu_isa()->moments(x, n, center, &sum, &squares);
        double offset = sum / (double)n;
        float inverse = (float)(1.0 / sqrt(squares / (double)n - offset * offset + f->eps));
        float shift = (float)offset;
        double sum_g, sum_gt;
        cpu_isa()->row_gradient_sums(x, dy, gamma, n, center, shift, inverse, by_gamma, by_beta,
                                     &sum_g, &sum_gt);
        if (!j->a->dx)
            continue;
        float *dx = row_begin(j->a->dx, row * n, buffer + 2 * n);
        cpu_isa()->row_gradient(dx, x, dy, gamma, n, center, shift, inverse,
                                (float)(sum_g / (double)n), (float)(sum_gt / (double)n));
        row_written(j->a->dx, row * n, n, dx);
    }
}

void cpu_layer_norm_backward(struct device *d, const struct layer_norm_backward_args *a)
{
    struct job j = {.a = a};
    int64_t rows = tensor_rows(a->dy), n = tensor_last(a->dy);
    int64_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    size_t granted;
    size_t partial = (size_t)(chunks * 2 * n) * sizeof(double);
    size_t buffers = a->dy->dtype == DTYPE_F32 ? 0 : (size_t)(3 * threads_count() * n);
    j.partial = device_allocate(d, partial + buffers * sizeof(float), &granted);
    j.buffers = (float *)((char *)j.partial + partial);
    parallel_for(rows, CHUNK_ROWS, backward_rows, &j);
    float *dgamma = a->dgamma ? a->dgamma->data : NULL, *dbeta = a->dbeta ? a->dbeta->data : NULL;
    for (int64_t i = 0; i < n; i++) {
        double by_gamma = 0, by_beta = 0;
        for (int64_t k = 0; k < chunks; k++) {
            by_gamma += j.partial[k * 2 * n + i];
            by_beta += j.partial[k * 2 * n + n + i];
        }
        if (dgamma)
            dgamma[i] += (float)by_gamma;
        if (dbeta)
            dbeta[i] += (float)by_beta;
    }
    device_release(d, j.partial, granted);
}
