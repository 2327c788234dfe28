#include "kernels/cuda/map.cuh"

#define THREADS 512

/* The images of a batch are a tensor's first dimension. */
static int64_t count_of_each(const struct tensor *t)
{
    return t->shape[0] ? count_of(t) / t->shape[0] : 0;
}

template <typename T> static T *data_of(const struct tensor *t)
{
    return t ? (T *)t->data : nullptr;
}

/* ---- posterior: latents are small, so one block per image keeps the order of its sum */

DEVICE_INLINE double clamp_logvar(double logvar)
{
    return logvar < -30 ? -30 : logvar > 20 ? 20 : logvar; /* NaN stays NaN */
}

static __global__ void __launch_bounds__(THREADS)
    posterior(const float *moments, const float *noise, float *z, double *kl, int64_t count)
{
    const float *mean = moments + 2 * blockIdx.x * count, *logvar = mean + count;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += THREADS) {
        const double mu = mean[i], log_variance = clamp_logvar(logvar[i]);
        const double deviation = exp(log_variance / 2);
        const int64_t at = blockIdx.x * count + i;
        z[at] = (float)(mu + (noise ? deviation * noise[at] : 0));
        sum += (mu * mu + deviation * deviation - 1 - log_variance) / 2;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        kl[blockIdx.x] = sum;
}

void cuda_posterior(struct device *d, const struct posterior_args *a)
{
    if (a->z->shape[0] > 0)
        LAUNCH(posterior, (unsigned)a->z->shape[0], THREADS, 0, stream_of(d),
               data_of<const float>(a->moments), data_of<const float>(a->noise),
               data_of<float>(a->z), data_of<double>(a->kl), count_of_each(a->z));
}

static __global__ void posterior_backward(const float *moments, const float *noise, const float *dz,
                                          const double *weight, double kl_weight, float *dmoments,
                                          int64_t n, int64_t count)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= n * count)
        return;
    const int64_t image = at / count, of_mean = at + image * count, of_logvar = of_mean + count;
    const double log_variance = clamp_logvar(moments[of_logvar]), deviation = exp(log_variance / 2);
    const double d = dz[at], of_kl = kl_weight * weight[0];
    double by_logvar = of_kl * (deviation * deviation - 1) / 2;
    if (noise)
        by_logvar += d * noise[at] * deviation / 2;
    dmoments[of_mean] = (float)(d + of_kl * moments[of_mean]);
    dmoments[of_logvar] = log_variance == moments[of_logvar] ? (float)by_logvar : 0;
}

void cuda_posterior_backward(struct device *d, const struct posterior_backward_args *a)
{
    const int64_t all = count_of(a->dz);
    if (all > 0)
        LAUNCH(posterior_backward, (unsigned)divide_up(all, THREADS), THREADS, 0, stream_of(d),
               data_of<const float>(a->moments), data_of<const float>(a->noise),
               data_of<const float>(a->dz), data_of<const double>(a->weight), a->kl_weight,
               data_of<float>(a->dmoments), a->dz->shape[0], count_of_each(a->dz));
}

/* ---- reconstruction error: reads two planes and writes one. The parts of an image's sum do not
 * depend on the batch. */

#define PART (16 * THREADS) /* elements */

struct judging {
    const float *x, *y;
    const double *weight;
    float *dy;
    int64_t count; /* of an image */
    bool squared;
};

/* Block (part, image). N divides PART. */
template <int N>
static __global__ void __launch_bounds__(THREADS) judge(const judging j, double *partial)
{
    const int64_t begin = (int64_t)blockIdx.x * PART;
    const int64_t end = begin + PART < j.count ? begin + PART : j.count;
    const int64_t image = blockIdx.y * j.count;
    const float each = j.dy ? (float)(j.weight[0] / (double)j.count) : 0;
    double sum = 0;
    for (int64_t i = begin + N * (int64_t)threadIdx.x; i < end; i += N * THREADS) {
        const vec<float, N> x = load_vec<N>(j.x + image + i), y = load_vec<N>(j.y + image + i);
        vec<float, N> gradient;
        float errors = 0;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const float apart = y[k] - x[k];
            errors += j.squared ? apart * apart : fabsf(apart);
            gradient[k] = each * (j.squared ? 2 * apart : (float)((apart > 0) - (apart < 0)));
        }
        sum += (double)errors;
        if (j.dy)
            store_vec(j.dy + image + i, gradient);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

static __global__ void mean_error(const double *partial, int parts, int64_t count, double *loss,
                                  float *dy)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < parts; i += 32)
        sum += partial[(int64_t)blockIdx.x * parts + i];
    sum = warp_sum(sum);
    if (threadIdx.x > 0)
        return;
    loss[blockIdx.x] = sum / (double)count;
    if (dy && !isfinite(sum))
        dy[blockIdx.x * count] = NAN;
}

void cuda_reconstruction_error(struct device *d, const struct reconstruction_error_args *a)
{
    const judging j = {data_of<const float>(a->x),
                       data_of<const float>(a->y),
                       data_of<const double>(a->dy ? a->weight : nullptr),
                       data_of<float>(a->dy),
                       count_of_each(a->x),
                       a->squared};
    const unsigned n = (unsigned)a->x->shape[0], parts = (unsigned)divide_up(j.count, PART);
    if (n == 0 || parts == 0)
        return;
    const scratch partial(d, (size_t)n * parts * sizeof(double));
    const dim3 grid(parts, n);
    if (j.count % 4 == 0 && alignment_of(address(a->x), address(a->y), address(a->dy)) == 16)
        LAUNCH(judge<4>, grid, THREADS, 0, stream_of(d), j, partial.as<double>());
    else
        LAUNCH(judge<1>, grid, THREADS, 0, stream_of(d), j, partial.as<double>());
    LAUNCH(mean_error, n, 32, 0, stream_of(d), partial.as<const double>(), (int)parts, j.count,
           data_of<double>(a->loss), j.dy);
}

/* ---- losses of few numbers: one block */

static __global__ void __launch_bounds__(THREADS)
    hinge(const float *x, double sign, double scale, double *means, float *dx, int64_t count)
{
    double sums[2] = {0, 0};
    const float slope = (float)(-sign * scale / 2 / (double)count);
    for (int64_t i = threadIdx.x; i < count; i += THREADS) {
        const double below = 1 - sign * x[i];
        sums[0] += x[i];
        sums[1] += below > 0 ? below : below <= 0 ? 0 : (double)NAN;
        if (dx)
            dx[i] = below > 0 ? slope : below <= 0 ? 0 : NAN;
    }
    block_sum(sums);
    if (threadIdx.x > 0)
        return;
    means[0] = sums[0] / (double)count;
    means[1] = sums[1] / 2 / (double)count;
}

void cuda_hinge_loss(struct device *d, const struct hinge_loss_args *a)
{
    LAUNCH(hinge, 1, THREADS, 0, stream_of(d), data_of<const float>(a->x), a->sign, a->scale,
           data_of<double>(a->means), data_of<float>(a->dx), count_of(a->x));
}

static __global__ void adaptive_weight(const struct adaptive_weight_args a, const double *weight,
                                       double *w)
{
    double nll = 0, generator = 0;
    for (int64_t i = 0; i < a.segments; i++) {
        nll += a.nll[i];
        generator += a.generator[i];
    }
    const double ratio = sqrt(nll) / (sqrt(generator) + a.epsilon * (weight[0] * a.images));
    w[0] = a.disc_weight * (ratio > a.most ? a.most : ratio);
}

void cuda_adaptive_weight(struct device *d, const struct adaptive_weight_args *a)
{
    LAUNCH(adaptive_weight, 1, 1, 0, stream_of(d), *a, data_of<const double>(a->weight),
           data_of<double>(a->w));
}

/* ---- numbers from the device's memory in place of arguments */

static __global__ void fill_scaled(const double *scale, double factor, double divisor, float *y,
                                   int64_t count)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        y[i] = (float)(scale[0] * factor / divisor);
}

void cuda_fill_scaled(struct device *d, const struct fill_scaled_args *a)
{
    const int64_t count = count_of(a->y);
    if (count > 0)
        LAUNCH(fill_scaled, (unsigned)divide_up(count, THREADS), THREADS, 0, stream_of(d),
               data_of<const double>(a->scale), a->factor, a->divisor, data_of<float>(a->y), count);
}

/* Rounds as linear_combination. */
template <int N> struct add_scaled_items {
    static constexpr int UNROLL = 2;
    struct loaded {
        vec<float, N> a, b;
    };
    const float *a, *b;
    const double *scale;
    float *y;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return {load_vec<N>(a + (size_t)i * N), load_vec<N>(b + (size_t)i * N)};
    }
    __device__ __forceinline__ void store(unsigned i, const loaded &in) const
    {
        vec<float, N> sum;
        const float by = (float)scale[0];
#pragma unroll
        for (int k = 0; k < N; k++)
            sum[k] = __fmaf_rn(by, in.b[k], in.a[k]);
        store_vec(y + (size_t)i * N, sum);
    }
};

void cuda_add_scaled(struct device *d, const struct add_scaled_args *a)
{
    const bool aligned = alignment_of(address(a->a), address(a->b), address(a->y)) == 16;
    map_elements<4>(d, "add_scaled", count_of(a->y), aligned, [&](auto n, int64_t at) {
        return add_scaled_items<decltype(n)::n>{
            data_of<const float>(a->a) + at, data_of<const float>(a->b) + at,
            data_of<const double>(a->scale), data_of<float>(a->y) + at};
    });
}

void cuda_copy(struct device *d, const struct copy_args *a)
{
    if (a->bytes > 0)
        cuda_check(
            cudaMemcpyAsync(a->to, a->from, a->bytes, cudaMemcpyDeviceToDevice, stream_of(d)));
}
