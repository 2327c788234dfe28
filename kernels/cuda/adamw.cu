#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/staging.cuh"
#include "kernels/cuda/update_copies.cuh"

#define THREADS 256

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

#define SUM_THREADS 1024

/* For one block. */
static __device__ double sum_of_sums(const double *sums, int64_t count)
{
    double sum = 0;
    for (int64_t i = (int)threadIdx.x; i < count; i += SUM_THREADS)
        sum += sums[i];
    return block_sum(sum);
}

/* ---- AdamW: reads five arrays and writes four, 36 bytes per element (28 without ema; less where
 * gradients are compact), and the working copies if there are any; rounds each operation as
 * ref/adamw.c does. */

struct averaging {
    float decay, fresh;

    averaging() = default;
    explicit averaging(double d) : decay((float)d), fresh((float)(1 - d))
    {
    }
    template <int N> __device__ void take_in(vec<float, N> &average, const vec<float, N> &x) const
    {
#pragma unroll
        for (int k = 0; k < N; k++)
            average[k] = __fadd_rn(__fmul_rn(average[k], decay), __fmul_rn(x[k], fresh));
    }
};

struct adamw_step {
    const struct update_copy *copies;
    int64_t copy_count, first; /* first: of `parameter` in the whole array of weights */
    float *parameter, *m, *v, *ema;
    const float *gradient;
    int64_t count;
    float keep, rate, step_size, root_bias2, epsilon, rate1, beta2, rate2;
    averaging before, now;
    bool is_behind;
};

/* What follows from the gradient norm. */
struct decision {
    double norm;
    float gradient_scale;
    int applied;
};

static __device__ void step_element(const adamw_step &a, float scale, float gradient, float &p,
                                    float &m, float &v)
{
    const float g = __fmul_rn(gradient, scale);
    m = __fadd_rn(m, __fmul_rn(a.rate1, __fsub_rn(g, m)));
    v = __fadd_rn(__fmul_rn(v, a.beta2), __fmul_rn(__fmul_rn(a.rate2, g), g));
    const float below = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), a.root_bias2), a.epsilon);
    p = __fsub_rn(__fmul_rn(p, a.keep), __fdiv_rn(__fmul_rn(a.step_size, m), below));
}

/* With working copies, the gradients are in kept, and the parameters are left there. */
template <int N>
static __device__ void step_at(const adamw_step &a, float scale, int64_t i, float *kept)
{
    const vec<float, N> gradient = load_vec<N>(a.copies ? kept : a.gradient + i);
    vec<float, N> p = load_vec<N>(a.parameter + i), m, v, ema;
    if (a.m) {
        m = load_vec<N>(a.m + i);
        v = load_vec<N>(a.v + i);
    }
    if (a.ema)
        ema = load_vec<N>(a.ema + i);
    if (a.ema && a.is_behind)
        a.before.take_in<N>(ema, p);
#pragma unroll
    for (int k = 0; k < N; k++)
        if (a.m)
            step_element(a, scale, gradient[k], p[k], m[k], v[k]);
        else
            p[k] = __fsub_rn(__fmul_rn(p[k], a.keep), __fmul_rn(a.rate, gradient[k]));
    store_vec(a.parameter + i, p);
    if (a.copies)
        store_vec(kept, p);
    if (a.m) {
        store_vec(a.m + i, m);
        store_vec(a.v + i, v);
    }
    if (!a.ema)
        return;
    a.now.take_in<N>(ema, p);
    store_vec(a.ema + i, ema);
}

#define STEP_BLOCK (4 * THREADS) /* elements */

/* The gradients of elements begin .. end of the whole array to kept, from wherever they are. */
static __device__ void gather_gradients(const adamw_step &a, int64_t begin, int64_t end,
                                        float *kept)
{
    const int64_t i = begin + 4 * (int)threadIdx.x, k0 = first_copy(a.copies, a.copy_count, begin);
    bool compact[4] = {}, any = i + 4 > end;
    for (int64_t k = k0; k < a.copy_count && a.copies[k].first < end; k++) {
        const update_copy c = a.copies[k];
        if (!c.gradient)
            continue;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            compact[j] |= i + j >= c.first && i + j < c.first + c.count;
            any |= compact[j];
        }
        WITH_COPY_TYPE(c, T, {
            const T *from = (const T *)c.gradient;
            for_copied<THREADS>(c, begin, end,
                                [&](int64_t place, int at) { kept[at] = to_float(from[place]); });
        });
    }
    const float *plain = a.gradient + (i - a.first);
    if (!any && (uintptr_t)plain % 16 == 0) {
        store_vec(kept + 4 * threadIdx.x, load_vec<4>(plain));
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (!compact[j] && i + j < end)
            kept[4 * threadIdx.x + j] = plain[j];
}

/* Of the elements begin .. end of the whole array, which lie in kept. */
static __device__ void write_copies(const adamw_step &a, int64_t begin, int64_t end,
                                    const float *kept)
{
    int64_t k = first_copy(a.copies, a.copy_count, begin);
    for (; k < a.copy_count && a.copies[k].first < end; k++) {
        const update_copy c = a.copies[k];
        WITH_COPY_TYPE(c, T, {
            T *to = (T *)c.to;
            for_copied<THREADS>(
                c, begin, end, [&](int64_t place, int at) { to[place] = from_float<T>(kept[at]); });
        });
    }
}

/* decided: NULL if the host knows gradient_scale. */
static __global__ void adamw(const adamw_step a, const decision *decided, float gradient_scale,
                             bool aligned)
{
    if (decided) {
        if (!decided->applied)
            return;
        gradient_scale = decided->gradient_scale;
    }
    __shared__ __align__(16) float kept[STEP_BLOCK];
    const int64_t block = (int64_t)blockIdx.x * STEP_BLOCK, i = block + 4 * (int)threadIdx.x;
    const int64_t end = a.first + min(block + STEP_BLOCK, a.count);
    float *mine = kept + 4 * threadIdx.x;
    if (a.copies) {
        gather_gradients(a, a.first + block, end, kept);
        __syncthreads();
    }
    if (aligned && i + 4 <= a.count)
        step_at<4>(a, gradient_scale, i, mine);
    else
        for (int64_t j = i; j < min(i + 4, a.count); j++)
            step_at<1>(a, gradient_scale, j, mine + (j - i));
    if (!a.copies)
        return;
    __syncthreads();
    write_copies(a, a.first + block, end, kept);
}

static void launch_adamw(struct device *d, const struct adamw_args *a, const decision *decided,
                         const struct update_copies *copies, int64_t first)
{
    const double bias1 = 1 - pow(a->beta1, (double)a->step);
    const double bias2 = 1 - pow(a->beta2, (double)a->step);
    adamw_step s = {};
    if (copies) {
        s.copies = (const struct update_copy *)copies->table->data;
        s.copy_count = copies->count;
        s.first = first;
    }
    s.parameter = a->parameter;
    s.m = a->m;
    s.v = a->v;
    s.ema = a->ema;
    s.gradient = a->gradient;
    s.count = a->count;
    s.keep = (float)(1 - a->learning_rate * a->weight_decay);
    s.rate = (float)a->learning_rate;
    s.step_size = (float)(a->learning_rate / bias1);
    s.root_bias2 = (float)sqrt(bias2);
    s.epsilon = (float)a->epsilon;
    s.rate1 = (float)(1 - a->beta1);
    s.beta2 = (float)a->beta2;
    s.rate2 = (float)(1 - a->beta2);
    s.before = averaging(a->ema_decay_before);
    s.now = averaging(a->ema_decay);
    s.is_behind = a->ema_is_behind;
    const bool aligned = is_aligned(s.parameter) && is_aligned(s.m) && is_aligned(s.v) &&
                         is_aligned(s.ema) && is_aligned(s.gradient);
    if (s.count > 0)
        LAUNCH(adamw, (unsigned)divide_up(s.count, STEP_BLOCK), THREADS, 0, stream_of(d), s,
               decided, (float)a->gradient_scale, aligned);
}

void cuda_adamw(struct device *d, const struct adamw_args *a)
{
    launch_adamw(d, a, nullptr, nullptr, 0);
}

template <int N> struct moving_average_items {
    static constexpr int UNROLL = 2;
    struct loaded {
        vec<float, N> average, x;
    };
    float *average;
    const float *x;
    averaging by;

    __device__ __forceinline__ loaded load(unsigned i) const
    {
        return {load_vec<N>(average + (size_t)i * N), load_vec<N>(x + (size_t)i * N)};
    }
    __device__ __forceinline__ void store(unsigned i, loaded in) const
    {
        by.take_in<N>(in.average, in.x);
        store_vec(average + (size_t)i * N, in.average);
    }
};

void cuda_moving_average(struct device *d, const struct moving_average_args *a)
{
    const bool aligned = is_aligned(a->average) && is_aligned(a->x);
    map_elements<4>(d, "moving_average", a->count, aligned, [&](auto n, int64_t at) {
        return moving_average_items<decltype(n)::n>{a->average + at, a->x + at,
                                                    averaging(a->decay)};
    });
}

/* ---- update: the norm, the decision, the step. The host gets the result after launching them all.
 */

static __global__ void __launch_bounds__(SUM_THREADS)
    decide(const double *sums, int64_t count, double loss_scale, double clip, decision *result)
{
    const double sum = sum_of_sums(sums, count);
    if (threadIdx.x > 0)
        return;
    const double norm = sqrt(sum) / loss_scale;
    const double clipped = clip > 0 && norm > clip ? clip / norm : 1;
    result->norm = norm;
    result->applied = isfinite(norm);
    result->gradient_scale = (float)(clipped / loss_scale);
}

void cuda_update(struct device *d, const struct update_args *a)
{
    scratch memory(d, sizeof(decision));
    decision *decided = memory.as<decision>();
    LAUNCH(decide, 1, SUM_THREADS, 0, stream_of(d), a->squares, a->squares_count, a->loss_scale,
           a->clip, decided);
    struct staging *staging = cuda_of(d)->staging;
    const decision *known =
        a->result ? (const decision *)staging_fetch(staging, decided, sizeof *decided) : nullptr;
    const size_t bytes = a->result && a->fetch ? (size_t)count_of(a->fetch) * sizeof(float) : 0;
    const void *with = bytes ? staging_fetch(staging, a->fetch->data, bytes) : nullptr;
    struct adamw_args step = {};
    step.count = a->count;
    step.parameter = a->parameter;
    step.m = a->m;
    step.v = a->v;
    step.ema = a->ema;
    step.gradient = a->gradient;
    step.learning_rate = a->learning_rate;
    step.beta1 = a->beta1;
    step.beta2 = a->beta2;
    step.epsilon = a->epsilon;
    step.weight_decay = a->weight_decay;
    step.ema_decay = a->ema_decay;
    step.step = a->step;
    step.ema_is_behind = a->ema_is_behind;
    step.ema_decay_before = a->ema_decay_before;
    launch_adamw(d, &step, decided, a->copies, a->first);
    if (!known)
        return;
    staging_fetched(staging);
    a->result->gradient_norm = known->norm;
    a->result->applied = known->applied;
    if (with)
        memcpy(a->fetched, with, bytes);
}
