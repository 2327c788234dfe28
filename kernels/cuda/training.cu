#include "kernels/cuda/internal.cuh"

#include "common/base/philox.h"

#define THREADS 256

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* The images of a batch are a tensor's first dimension. */
static int64_t count_of_each(const struct tensor *t)
{
    return t->shape[0] ? count_of(t) / t->shape[0] : 0;
}

/* ---- fill: writes once, 16 bytes per thread and iteration */

static __global__ void fill(float *x, float value, int64_t count, bool aligned)
{
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t i = 4 * thread;
    if (aligned && i + 4 <= count) {
        store_vec(x + i, vec<float, 4>{{value, value, value, value}});
        return;
    }
    for (int64_t j = i; j < min(i + 4, count); j++)
        x[j] = value;
}

void cuda_fill(struct device *d, const struct fill_args *a)
{
    uint32_t bits;
    memcpy(&bits, &a->value, sizeof bits);
    if (a->count <= 0)
        return;
    if (bits == 0)
        cuda_check(cudaMemsetAsync(a->x, 0, (size_t)a->count * sizeof(float), stream_of(d)));
    else
        LAUNCH(fill, (unsigned)divide_up(a->count, 4 * THREADS), THREADS, 0, stream_of(d), a->x,
               a->value, a->count, is_aligned(a->x));
}

/* ---- normals: four per thread, from one Philox block */

static __global__ void normals(float *y, const int64_t *draws, int64_t n, int64_t count,
                               uint64_t seed, uint32_t purpose)
{
    const int64_t blocks = (count + 3) / 4;
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (thread >= n * blocks)
        return;
    const int64_t row = thread / blocks, block = thread - row * blocks;
    const uint64_t sample = (uint64_t)draws[2 * row];
    const uint32_t step = (uint32_t)draws[2 * row + 1];
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)block, purpose << 26 | step, (uint32_t)sample,
                                 (uint32_t)(sample >> 32)};
    uint32_t words[4];
    philox_words(words, counter, key);
    vec<float, 4> z;
    philox_normals(&z[0], &z[1], words[0], words[1]);
    philox_normals(&z[2], &z[3], words[2], words[3]);
    float *out = y + row * count + 4 * block;
    if (count % 4 == 0) {
        store_vec(out, z);
        return;
    }
    for (int i = 0; i < 4 && 4 * block + i < count; i++)
        out[i] = z[i];
}

void cuda_normals(struct device *d, const struct normals_args *a)
{
    const int64_t n = a->y->shape[0], count = count_of_each(a->y);
    const int64_t threads = n * divide_up(count, 4);
    if (a->draws->dtype != DTYPE_I64 || !is_aligned(a->y->data))
        cuda_die("CUDA backend: normals of unexpected tensors (a bug)");
    if (threads > 0)
        LAUNCH(normals, (unsigned)divide_up(threads, THREADS), THREADS, 0, stream_of(d),
               (float *)a->y->data, (const int64_t *)a->draws->data, n, count, a->seed,
               (uint32_t)a->purpose);
}

/* ---- noised latents: reads four planes and writes two */

struct noising {
    const float *moments, *posterior_noise, *noise, *alpha, *sigma;
    float *noisy, *target;
    int64_t n, count; /* of an image */
    float scale;
};

template <int N> static __global__ void noised_latents(const noising a)
{
    const int64_t each = a.count / N;
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (thread >= a.n * each)
        return;
    const int64_t image = thread / each, j = (thread - image * each) * N;
    const int64_t i = image * a.count + j;
    const vec<float, N> mean = load_vec<N>(a.moments + 2 * image * a.count + j);
    const vec<float, N> logvar = load_vec<N>(a.moments + (2 * image + 1) * a.count + j);
    const vec<float, N> posterior = load_vec<N>(a.posterior_noise + i);
    const vec<float, N> noise = load_vec<N>(a.noise + i);
    const float alpha = a.alpha[image], sigma = a.sigma[image];
    vec<float, N> noisy, target;
#pragma unroll
    for (int k = 0; k < N; k++) {
        const float clamped = logvar[k] < -30 ? -30 : logvar[k] > 20 ? 20 : logvar[k];
        const float latent = (mean[k] + expf(clamped / 2) * posterior[k]) / a.scale;
        noisy[k] = alpha * latent + sigma * noise[k];
        target[k] = alpha * noise[k] - sigma * latent;
    }
    store_vec(a.noisy + i, noisy);
    store_vec(a.target + i, target);
}

void cuda_noised_latents(struct device *d, const struct noised_latents_args *a)
{
    const noising n = {(const float *)a->moments->data, (const float *)a->posterior_noise->data,
                       (const float *)a->noise->data,   (const float *)a->alpha->data,
                       (const float *)a->sigma->data,   (float *)a->noisy->data,
                       (float *)a->target->data,        a->noise->shape[0],
                       count_of_each(a->noise),         a->scale};
    const bool wide = n.count % 4 == 0 && is_aligned(n.moments) && is_aligned(n.posterior_noise) &&
                      is_aligned(n.noise) && is_aligned(n.noisy) && is_aligned(n.target);
    const unsigned blocks = (unsigned)divide_up(n.n * n.count / (wide ? 4 : 1), THREADS);
    if (blocks == 0)
        return;
    if (wide)
        LAUNCH(noised_latents<4>, blocks, THREADS, 0, stream_of(d), n);
    else
        LAUNCH(noised_latents<1>, blocks, THREADS, 0, stream_of(d), n);
}

/* ---- mse: one block per image, so that the order of its sum is fixed; reads two planes, writes
 * one */

#define MSE_THREADS 512

template <int N>
static __global__ void __launch_bounds__(MSE_THREADS)
    mse(const float *x, const float *target, const float *weight, float *loss, float *dx,
        int64_t count)
{
    const int64_t begin = blockIdx.x * count;
    const float factor = dx ? 2 * weight[0] : 0;
    double sum = 0;
    for (int64_t i = begin + N * (int64_t)threadIdx.x; i < begin + count; i += N * MSE_THREADS) {
        const vec<float, N> a = load_vec<N>(x + i), b = load_vec<N>(target + i);
        vec<float, N> gradient;
        float squares = 0;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const float difference = a[k] - b[k];
            squares += difference * difference;
            gradient[k] = difference * factor;
        }
        sum += (double)squares;
        if (dx)
            store_vec(dx + i, gradient);
    }
    sum = block_sum(sum);
    if (threadIdx.x > 0)
        return;
    const float mean = (float)(sum / (double)count);
    loss[blockIdx.x] = mean;
    if (dx && count > 0 && !isfinite(mean))
        dx[begin] = NAN; /* this thread wrote it before */
}

void cuda_mse(struct device *d, const struct mse_args *a)
{
    const float *x = (const float *)a->x->data, *target = (const float *)a->target->data;
    const float *weight = a->dx ? (const float *)a->weight->data : nullptr;
    float *loss = (float *)a->loss->data, *dx = a->dx ? (float *)a->dx->data : nullptr;
    const int64_t n = a->x->shape[0], count = count_of_each(a->x);
    const bool wide = count % 4 == 0 && is_aligned(x) && is_aligned(target) && is_aligned(dx);
    if (n == 0)
        return;
    if (wide)
        LAUNCH(mse<4>, (unsigned)n, MSE_THREADS, 0, stream_of(d), x, target, weight, loss, dx,
               count);
    else
        LAUNCH(mse<1>, (unsigned)n, MSE_THREADS, 0, stream_of(d), x, target, weight, loss, dx,
               count);
}
