#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/libraries.h"

/* Matrices are F32: rows of unit length, [n, d], and what relates them, [n, n]. Products are the
 * library's; between them, one block per row reads its row a few times, from L1 after the first.
 * Names are those of kernels/ref/cloob_loss.c. */

#define THREADS 256

/* The greatest of x * scale over the row, but for element `without`; every thread has it. */
DEVICE_INLINE float greatest_of(const float *x, float scale, int64_t n, int64_t without)
{
    __shared__ float of_thread[THREADS];
    float most = -INFINITY;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        if (i != without)
            most = fmaxf(most, x[i] * scale);
    __syncthreads();
    of_thread[threadIdx.x] = most;
    __syncthreads();
    for (int i = 0; i < THREADS; i++)
        most = fmaxf(most, of_thread[i]);
    return most;
}

/* The sum over the row of exp(x * scale - most), but for element `without`. */
DEVICE_INLINE double exponentials_of(const float *x, float scale, float most, int64_t n,
                                     int64_t without)
{
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        if (i != without)
            sum += (double)expf(x[i] * scale - most);
    return block_sum(sum);
}

/* Row: softmax(x * scale). */
static __global__ void __launch_bounds__(THREADS) softmax_rows(float *x, float scale, int64_t n)
{
    float *row = x + blockIdx.x * n;
    const float most = greatest_of(row, scale, n, -1);
    const float by = (float)(1 / exponentials_of(row, scale, most, n, -1));
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        row[i] = expf(row[i] * scale - most) * by;
}

/* Row: scaled to length 1; the length before is kept. */
static __global__ void __launch_bounds__(THREADS) unit_rows(float *x, float *length, int64_t d)
{
    float *row = x + blockIdx.x * d;
    double squares = 0;
    for (int64_t i = threadIdx.x; i < d; i += THREADS)
        squares += (double)row[i] * row[i];
    const float of_row = (float)sqrt(block_sum(squares));
    for (int64_t i = threadIdx.x; i < d; i += THREADS)
        row[i] /= of_row;
    if (threadIdx.x == 0)
        length[blockIdx.x] = of_row;
}

/* Row i of k: its loss, and in its place the gradient by it times weight * factor. */
static __global__ void __launch_bounds__(THREADS)
    loob_rows(float *k, float inv_tau, const double *weight, double factor, double *losses,
              int64_t n)
{
    float *row = k + blockIdx.x * n;
    const int64_t own = blockIdx.x;
    const float most = greatest_of(row, inv_tau, n, own);
    const double others = exponentials_of(row, inv_tau, most, n, own);
    if (threadIdx.x == 0)
        losses[own] = (double)most + log(others) - (double)(row[own] * inv_tau);
    __syncthreads();
    const double by = weight[0] * factor / (double)n;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        row[i] = (float)(i == own ? -by : by / others * (double)expf(row[i] * inv_tau - most));
}

/* Row of dfound, the gradient by a row of unit length: that by the row before it was scaled. */
static __global__ void __launch_bounds__(THREADS)
    unit_rows_backward(float *dfound, const float *found, const float *length, int64_t d)
{
    float *row = dfound + blockIdx.x * d;
    const float *unit = found + blockIdx.x * d;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < d; i += THREADS)
        sum += (double)unit[i] * row[i];
    const float along = (float)block_sum(sum), of_row = length[blockIdx.x];
    for (int64_t i = threadIdx.x; i < d; i += THREADS)
        row[i] = (row[i] - along * unit[i]) / of_row;
}

/* Row of dshares, the gradient by a softmax's shares: that by its scores before scaling. */
static __global__ void __launch_bounds__(THREADS)
    softmax_rows_backward(float *dshares, const float *shares, float scale, int64_t n)
{
    float *row = dshares + blockIdx.x * n;
    const float *share = shares + blockIdx.x * n;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        sum += (double)share[i] * row[i];
    const float mean = (float)block_sum(sum);
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        row[i] = scale * share[i] * (row[i] - mean);
}

/* numbers[0] = mean over both halves' rows of losses; numbers[1] = mean of x_i . y_i. */
static __global__ void __launch_bounds__(THREADS)
    mean_numbers(const double *losses, const float *x, const float *y, double *numbers, int64_t n,
                 int64_t d)
{
    double sums[2] = {0, 0};
    for (int64_t i = threadIdx.x; i < 2 * n; i += THREADS)
        sums[0] += losses[i];
    for (int64_t i = threadIdx.x; i < n * d; i += THREADS)
        sums[1] += (double)x[i] * y[i];
    block_sum(sums);
    if (threadIdx.x > 0)
        return;
    numbers[0] = sums[0] / (double)(2 * n);
    numbers[1] = sums[1] / (double)n;
}

/* ---- products; all matrices are dense */

struct sizes {
    int64_t n, d;
};

/* c = x y^T; c: [n, n]; x, y: [n, d]. */
static void similarities(struct device *d, sizes s, float *c, const float *x, const float *y)
{
    struct matrix_product p = {};
    p.rows = p.columns = p.ld_c = s.n;
    p.inner = p.ld_a = p.ld_b = s.d;
    p.type = p.c_type = DTYPE_F32;
    p.a = x;
    p.b = y;
    p.c = c;
    p.transpose_b = true;
    matrix_product(d, &p);
}

/* y = beta y + w x, or w^T x if transposed; w: [n, n]; x, y: [n, d]. */
static void mix(struct device *d, sizes s, float *y, float beta, const float *w, bool transposed,
                const float *x)
{
    struct matrix_product p = {};
    p.rows = p.inner = p.ld_a = s.n;
    p.columns = p.ld_b = p.ld_c = s.d;
    p.type = p.c_type = DTYPE_F32;
    p.a = w;
    p.b = x;
    p.c = y;
    p.transpose_a = transposed;
    p.beta = beta;
    matrix_product(d, &p);
}

/* What the patterns `state` retrieve from `stored`. */
struct retrieval {
    const float *stored, *state;
    float *shares; /* [n, n] */
    float *found;  /* [n, d] */
    float *length; /* [n] */
};

static void retrieve(struct device *d, sizes s, const retrieval &r, float scale)
{
    const unsigned rows = (unsigned)s.n;
    similarities(d, s, r.shares, r.state, r.stored);
    LAUNCH(softmax_rows, rows, THREADS, 0, stream_of(d), r.shares, scale, s.n);
    mix(d, s, r.found, 0, r.shares, false, r.stored);
    LAUNCH(unit_rows, rows, THREADS, 0, stream_of(d), r.found, r.length, s.d);
}

/* Adds to the gradients by stored and state. Overwrites dfound and dscores, [n, n]. */
static void retrieve_backward(struct device *d, sizes s, const retrieval &r, float scale,
                              float *dfound, float *dscores, float *dstored, float *dstate)
{
    const unsigned rows = (unsigned)s.n;
    LAUNCH(unit_rows_backward, rows, THREADS, 0, stream_of(d), dfound, r.found, r.length, s.d);
    similarities(d, s, dscores, dfound, r.stored);
    LAUNCH(softmax_rows_backward, rows, THREADS, 0, stream_of(d), dscores, r.shares, scale, s.n);
    mix(d, s, dstored, 1, r.shares, true, dfound);
    mix(d, s, dstored, 1, dscores, true, r.state);
    mix(d, s, dstate, 1, dscores, false, r.stored);
}

/* Scratch memory of one half of the loss. */
struct workspace {
    const scratch own_shares, cross_shares, k, own, cross, down, dcross, lengths;
    workspace(struct device *d, size_t n, size_t width)
        : own_shares(d, n * n * sizeof(float)), cross_shares(d, n * n * sizeof(float)),
          k(d, n * n * sizeof(float)), own(d, n * width * sizeof(float)),
          cross(d, n * width * sizeof(float)), down(d, n * width * sizeof(float)),
          dcross(d, n * width * sizeof(float)), lengths(d, 2 * n * sizeof(float))
    {
    }
};

/* One half of the loss: patterns retrieved from `stored` by themselves and by `other`. */
static void loob_half(struct device *d, const struct cloob_loss_args *a, sizes s,
                      const workspace &w, const float *stored, const float *other, float *dstored,
                      float *dother, double *losses)
{
    const float scale = (float)a->scale_hopfield;
    float *k = w.k.as<float>(), *down = w.down.as<float>(), *dcross = w.dcross.as<float>();
    const retrieval own = {stored, stored, w.own_shares.as<float>(), w.own.as<float>(),
                           w.lengths.as<float>()};
    const retrieval cross = {stored, other, w.cross_shares.as<float>(), w.cross.as<float>(),
                             w.lengths.as<float>() + s.n};
    retrieve(d, s, own, scale);
    retrieve(d, s, cross, scale);
    similarities(d, s, k, own.found, cross.found);
    LAUNCH(loob_rows, (unsigned)s.n, THREADS, 0, stream_of(d), k, (float)a->inv_tau,
           (const double *)a->weight->data, 0.5 * a->inv_tau, losses, s.n);
    mix(d, s, down, 0, k, false, cross.found);
    mix(d, s, dcross, 0, k, true, own.found);
    retrieve_backward(d, s, own, scale, down, k, dstored, dstored);
    retrieve_backward(d, s, cross, scale, dcross, k, dstored, dother);
}

void cuda_cloob_loss(struct device *d, const struct cloob_loss_args *a)
{
    const sizes s = {a->image->shape[0], a->image->shape[1]};
    const size_t bytes = (size_t)(s.n * s.d) * sizeof(float);
    const float *x = (const float *)a->image->data, *y = (const float *)a->text->data;
    float *dx = (float *)a->dimage->data, *dy = (float *)a->dtext->data;
    const workspace w(d, (size_t)s.n, (size_t)s.d);
    const scratch losses(d, 2 * (size_t)s.n * sizeof(double));
    cuda_check(cudaMemsetAsync(dx, 0, bytes, stream_of(d)));
    cuda_check(cudaMemsetAsync(dy, 0, bytes, stream_of(d)));
    loob_half(d, a, s, w, x, y, dx, dy, losses.as<double>());
    loob_half(d, a, s, w, y, x, dy, dx, losses.as<double>() + s.n);
    LAUNCH(mean_numbers, 1, THREADS, 0, stream_of(d), losses.as<const double>(), x, y,
           (double *)a->numbers->data, s.n, s.d);
}
