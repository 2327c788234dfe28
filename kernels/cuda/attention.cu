#include "kernels/cuda/attention.cuh"

/* Heads of width 64 on tensor cores. A block owns 16 GROUPS query rows per warp and loops over
 * tiles of KEYS keys and values, two of which are in shared memory: one in use, one being copied.
 * Scores and weights stay in registers. Each query tile reads all keys and values, from the second
 * tile on from L2; q is read and y written once.
 *
 * A row's result does not depend on GROUPS, so GROUPS may depend on the number of images. */
template <typename T, int WARPS, int GROUPS, int KEYS>
__global__ void __launch_bounds__(WARPS * 32, 12 / WARPS / GROUPS)
    flash_attention(attention_problem<T> a, T *y, int blocks_per_head)
{
    enum { THREADS = WARPS * 32, ROWS = WARPS * GROUPS * 16, N = KEYS / 8 };
    DYNAMIC_SHARED(T, queries);           /* [ROWS][64] */
    T *const tiles = queries + ROWS * 64; /* 2 of keys [KEYS][64], values [KEYS][64] */
    const attention_head<T> head = attention_head_of(a, blockIdx.x / blocks_per_head);
    const int first_row = blockIdx.x % blocks_per_head * ROWS;
    const int warp = threadIdx.x / 32, t = threadIdx.x % 4 * 2;
    const int steps = (a.s + KEYS - 1) / KEYS;

    auto copy = [&](int step) {
        T *const tile = tiles + step % 2 * (2 * KEYS * 64);
        const int first = step * KEYS;
        copy_tile<THREADS>(tile, KEYS, head.k + first * a.ld_k, a.ld_k, a.s - first);
        copy_tile<THREADS>(tile + KEYS * 64, KEYS, head.v + first * a.ld_v, a.ld_v, a.s - first);
        cp_async_commit();
    };
    copy_tile<THREADS>(queries, ROWS, head.q + first_row * a.ld_q, a.ld_q, a.s - first_row, 64,
                       head.uniform ? head.uniform + first_row : nullptr);
    copy(0);

    unsigned q[GROUPS][4][4];
    float sums[GROUPS][8][4] = {};
    float maximum[GROUPS][2],
        total[GROUPS][2]; /* of rows g and g + 8; total: of this lane's columns */
#pragma unroll
    for (int group = 0; group < GROUPS; group++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            maximum[group][half] = -INFINITY;
            total[group][half] = 0;
        }
    for (int step = 0; step < steps; step++) {
        cp_async_wait<0>();
        __syncthreads();
        if (step + 1 < steps)
            copy(step + 1);
        if (step == 0) {
#pragma unroll
            for (int group = 0; group < GROUPS; group++)
#pragma unroll
                for (int k = 0; k < 4; k++)
                    load_a(q[group][k], queries, (warp * GROUPS + group) * 16, k * 16);
        }
        const T *const keys = tiles + step % 2 * (2 * KEYS * 64);
        const int left = a.s - step * KEYS; /* keys from here on are padding */
        float scores[GROUPS][N][4];
#pragma unroll
        for (int group = 0; group < GROUPS; group++)
#pragma unroll
            for (int n = 0; n < N; n++)
                scores[group][n][0] = scores[group][n][1] = scores[group][n][2] =
                    scores[group][n][3] = 0;
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int n = 0; n < N; n += 2) {
                unsigned b[4];
                load_b(b, keys, n * 8, k * 16);
#pragma unroll
                for (int group = 0; group < GROUPS; group++)
                    mma_pair<T>(scores[group][n], scores[group][n + 1], q[group][k], b);
            }
#pragma unroll
        for (int group = 0; group < GROUPS; group++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float largest = maximum[group][half];
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float *const score = &scores[group][n][half * 2 + e];
                        if (left < KEYS && n * 8 + t + e >= left)
                            *score = -INFINITY;
                        largest = fmaxf(largest, *score);
                    }
                largest = quad_max(largest);
                const float correction =
                    power_of_2((maximum[group][half] - largest) * a.log2_scale);
                const float shift = -largest * a.log2_scale;
                maximum[group][half] = largest;
                float sum = 0;
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float *const score = &scores[group][n][half * 2 + e];
                        *score = power_of_2(fmaf(*score, a.log2_scale, shift));
                        sum += *score;
                    }
                total[group][half] = fmaf(total[group][half], correction, sum);
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    sums[group][n][half * 2] *= correction;
                    sums[group][n][half * 2 + 1] *= correction;
                }
            }
#pragma unroll
        for (int k = 0; k < N / 2; k++) {
            unsigned p[GROUPS][4];
#pragma unroll
            for (int group = 0; group < GROUPS; group++)
                a_from_c<T>(p[group], scores[group][2 * k], scores[group][2 * k + 1]);
#pragma unroll
            for (int n = 0; n < 8; n += 2) {
                unsigned b[4];
                load_b_transposed(b, keys + KEYS * 64, k * 16, n * 8);
#pragma unroll
                for (int group = 0; group < GROUPS; group++)
                    mma_pair<T>(sums[group][n], sums[group][n + 1], p[group], b);
            }
        }
    }
    const int64_t ld = (int64_t)a.heads * 64;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        const int line = (warp * GROUPS + group) * 16, row = first_row + line;
        store_rows(y + (head.row + row) * ld + head.column, ld, a.s - row, sums[group],
                   1 / quad_sum(total[group][0]), 1 / quad_sum(total[group][1]),
                   queries + line * 64);
    }
}

template <typename T, int WARPS, int GROUPS, int KEYS>
void launch_flash(struct device *d, const struct attention_args *a)
{
    const int rows = WARPS * GROUPS * 16;
    const int64_t blocks_per_head = divide_up(a->s, rows);
    LAUNCH((flash_attention<T, WARPS, GROUPS, KEYS>), (unsigned)(a->n * a->heads * blocks_per_head),
           WARPS * 32, (rows + 4 * KEYS) * 64 * sizeof(T), stream_of(d), attention_problem_of<T>(a),
           (T *)a->y->data, (int)blocks_per_head);
}

template <typename T> void launch_flash(struct device *d, const struct attention_args *a)
{
    if (a->s <= 16)
        launch_flash<T, 1, 1, 16>(d, a);
    else if (a->s > 64 && a->n * a->heads * divide_up(a->s, 128) >= 2 * cuda_of(d)->multiprocessors)
        launch_flash<T, 4, 2, 64>(d, a);
    else
        launch_flash<T, 4, 1, 64>(d, a);
}

/* ---- one head of width 512, the autoencoder's, on tensor cores. A block owns 64 query rows, which
 * stay in shared memory, and loops over tiles of 32 keys and values: keys are copied while values
 * are in use, and vice versa. A warp computes scores for 16 queries and 16 keys, and results for
 * all queries and 64 columns, in 128 registers. */
enum { WIDE_THREADS = 256, WIDE_KEYS = 32, WIDE_PITCH = 40 };

template <typename T> struct wide_shared {
    T queries[8][64 * 64], keys[8][WIDE_KEYS * 64], values[8][WIDE_KEYS * 64];
    T weights[64 * 64]; /* of 32 columns */
    float scores[64 * WIDE_PITCH];
    float factors[64]; /* of rows */
};

template <typename T>
__global__ void __launch_bounds__(WIDE_THREADS, 1)
    wide_attention(attention_problem<T> a, T *y, int blocks_per_head)
{
    DYNAMIC_SHARED(wide_shared<T>, shared);
    const attention_head<T> head = attention_head_of(a, blockIdx.x / blocks_per_head);
    const int first_row = blockIdx.x % blocks_per_head * 64;
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4 * 2;

    auto copy = [&](T(*tiles)[WIDE_KEYS * 64], const T *from, int64_t ld, int first) {
        if (first < a.s)
            for (int i = 0; i < 8; i++)
                copy_tile<WIDE_THREADS>(tiles[i], WIDE_KEYS, from + first * ld + i * 64, ld,
                                        a.s - first);
        cp_async_commit();
    };
    for (int i = 0; i < 8; i++)
        copy_tile<WIDE_THREADS>(shared->queries[i], 64, head.q + first_row * a.ld_q + i * 64,
                                a.ld_q, a.s - first_row, 64,
                                head.uniform ? head.uniform + first_row : nullptr);
    copy(shared->keys, head.k, a.ld_k, 0);
    copy(shared->values, head.v, a.ld_v, 0);

    /* 4 adjacent lanes share a row's scores. */
    const int row = threadIdx.x / 4, quarter = threadIdx.x % 4;
    float maximum = -INFINITY, total = 0;
    float sums[4][8][4] = {};
    for (int first = 0; first < a.s; first += WIDE_KEYS) {
        cp_async_wait<1>(); /* the values may still be in flight */
        __syncthreads();
        const int query = warp % 4 * 16, key = warp / 4 * 16;
        float c[2][4] = {};
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int k = 0; k < 64; k += 16) {
                unsigned queries[4], keys[4];
                load_a(queries, shared->queries[i], query, k);
                load_b(keys, shared->keys[i], key, k);
                mma_pair<T>(c[0], c[1], queries, keys);
            }
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                store_vec(shared->scores + (query + g + half * 8) * WIDE_PITCH + key + n * 8 + t,
                          vec<float, 2>{{c[n][half * 2], c[n][half * 2 + 1]}});
        __syncthreads();
        copy(shared->keys, head.k, a.ld_k, first + WIDE_KEYS);

        float scores[WIDE_KEYS / 4], largest = maximum;
#pragma unroll
        for (int i = 0; i < WIDE_KEYS / 4; i++) {
            const int column = i * 4 + quarter;
            scores[i] =
                first + column < a.s ? shared->scores[row * WIDE_PITCH + column] : -INFINITY;
            largest = fmaxf(largest, scores[i]);
        }
        largest = quad_max(largest);
        const float correction = power_of_2((maximum - largest) * a.log2_scale);
        maximum = largest;
        total *= correction;
#pragma unroll
        for (int i = 0; i < WIDE_KEYS / 4; i++) {
            const float weight = power_of_2((scores[i] - largest) * a.log2_scale);
            total += weight;
            shared->weights[tile_at(row, i / 2 * 8) + i % 2 * 4 + quarter] = from_float<T>(weight);
        }
        if (quarter == 0)
            shared->factors[row] = correction;
        cp_async_wait<1>(); /* the next keys may still be in flight */
        __syncthreads();
#pragma unroll
        for (int group = 0; group < 4; group++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float factor = shared->factors[group * 16 + g + half * 8];
#pragma unroll
                for (int n = 0; n < 8; n++) {
                    sums[group][n][half * 2] *= factor;
                    sums[group][n][half * 2 + 1] *= factor;
                }
            }
#pragma unroll
        for (int k = 0; k < WIDE_KEYS; k += 16) {
            unsigned weights[4][4];
#pragma unroll
            for (int group = 0; group < 4; group++)
                load_a(weights[group], shared->weights, group * 16, k);
#pragma unroll
            for (int n = 0; n < 8; n += 2) {
                unsigned values[4];
                load_b_transposed(values, shared->values[warp], k, n * 8);
#pragma unroll
                for (int group = 0; group < 4; group++)
                    mma_pair<T>(sums[group][n], sums[group][n + 1], weights[group], values);
            }
        }
        __syncthreads();
        copy(shared->values, head.v, a.ld_v, first + WIDE_KEYS);
    }
    total = quad_sum(total);
    if (quarter == 0)
        shared->factors[row] = 1 / total;
    __syncthreads();
    const int64_t ld = (int64_t)a.heads * 512;
#pragma unroll
    for (int group = 0; group < 4; group++) {
        const int line = group * 16;
        store_rows(y + (head.row + first_row + line) * ld + head.column + warp * 64, ld,
                   a.s - first_row - line, sums[group], shared->factors[line + g],
                   shared->factors[line + g + 8], shared->queries[warp] + line * 64);
    }
}

static size_t shared_bytes_of_block(const struct device *d)
{
    int bytes;
    cuda_check(
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, cuda_of(d)->index));
    return (size_t)bytes;
}

template <typename T> void launch_wide(struct device *d, const struct attention_args *a)
{
    const int64_t blocks_per_head = divide_up(a->s, 64);
    LAUNCH((wide_attention<T>), (unsigned)(a->n * a->heads * blocks_per_head), WIDE_THREADS,
           sizeof(wide_shared<T>), stream_of(d), attention_problem_of<T>(a), (T *)a->y->data,
           (int)blocks_per_head);
}

/* ---- heads of any width: a block owns 64 query rows and 64 CHUNKS columns of their results. If
 * there are more columns, other blocks compute the same scores again. */

template <typename TILES> struct tiled_shared {
    staged_tiles<TILES> tiles;
    float scores[64 * SCORES_PITCH];
    float factors[64]; /* of rows */
    typename TILES::element weights[TILES::weights_in_place ? 8 : TILES::tile_elements];
};

template <typename TILES, int CHUNKS>
__global__ void __launch_bounds__(TILED_THREADS)
    tiled_attention(attention_problem<typename TILES::type> a, typename TILES::type *y,
                    int column_blocks)
{
    DYNAMIC_SHARED(tiled_shared<TILES>, shared);
    typedef typename TILES::type T;
    typedef typename TILES::element element;
    const int column = blockIdx.x % column_blocks * (64 * CHUNKS);
    const int row_blocks = (a.s + 63) / 64, block = blockIdx.x / column_blocks;
    const int first_row = block % row_blocks * 64;
    const attention_head<T> head = attention_head_of(a, block / row_blocks);
    element *const weights = TILES::weights_in_place ? (element *)shared->scores : shared->weights;

    /* 4 adjacent lanes share a row's scores. */
    const int row = threadIdx.x / 4, quarter = threadIdx.x % 4;
    float maximum = -INFINITY, total = 0;
    float sums[CHUNKS][16] = {};
    for (int first = 0; first < a.s; first += 64) {
        const int count = a.s - first;
        tile_scores<TILES>(shared->scores, shared->tiles, a.d, head.q + first_row * a.ld_q, a.ld_q,
                           a.s - first_row, head.uniform ? head.uniform + first_row : nullptr,
                           head.k + first * a.ld_k, a.ld_k, count, nullptr, first > 0 && a.d <= 64);
        __syncthreads();
        float scores[16], largest = maximum;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const int key = i * 4 + quarter;
            scores[i] = key < count ? shared->scores[row * SCORES_PITCH + key] : -INFINITY;
            largest = fmaxf(largest, scores[i]);
        }
        largest = quad_max(largest);
        const float correction = power_of_2((maximum - largest) * a.log2_scale);
        maximum = largest;
        total *= correction;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float weight = power_of_2((scores[i] - largest) * a.log2_scale);
            total += weight;
            *TILES::weight_at(weights, row, i * 4 + quarter) = from_float<element>(weight);
        }
        if (quarter == 0)
            shared->factors[row] = correction;
        __syncthreads();
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
#pragma unroll
            for (int i = 0; i < 16; i++)
                sums[c][i] *= shared->factors[TILES::row(i)];
        tile_accumulate<TILES, CHUNKS>(sums, shared->tiles, weights, column, a.d,
                                       head.v + first * a.ld_v, a.ld_v, count, nullptr);
    }
    total = quad_sum(total);
    if (quarter == 0)
        shared->factors[row] = 1 / total;
    __syncthreads();
    const int64_t ld = (int64_t)a.heads * a.d;
    tile_store<TILES, CHUNKS>(y + (head.row + first_row) * ld + head.column, ld, a.s - first_row,
                              column, a.d, sums, [&](int r) { return shared->factors[r]; });
}

template <typename TILES, int CHUNKS>
void launch_tiled(struct device *d, const struct attention_args *a)
{
    typedef typename TILES::type T;
    const int64_t column_blocks = divide_up(a->d, 64 * CHUNKS);
    LAUNCH((tiled_attention<TILES, CHUNKS>),
           (unsigned)(a->n * a->heads * divide_up(a->s, 64) * column_blocks), TILED_THREADS,
           sizeof(tiled_shared<TILES>), stream_of(d), attention_problem_of<T>(a), (T *)a->y->data,
           (int)column_blocks);
}

template <typename TILES> void launch_tiled(struct device *d, const struct attention_args *a)
{
    if (a->d <= 64)
        launch_tiled<TILES, 1>(d, a);
    else
        launch_tiled<TILES, 4>(d, a);
}

template <typename T> void launch_16_bit(struct device *d, const struct attention_args *a)
{
    if (!attention_aligned(a))
        launch_tiled<fma_tiles<T>>(d, a);
    else if (a->d == 64)
        launch_flash<T>(d, a);
    else if (a->d == 512 && shared_bytes_of_block(d) >= sizeof(wide_shared<T>))
        launch_wide<T>(d, a);
    else
        launch_tiled<mma_tiles<T>>(d, a);
}

extern "C" void cuda_attention(struct device *d, const struct attention_args *a)
{
    if (a->n == 0)
        return;
    if (a->y->dtype == DTYPE_F32)
        launch_tiled<fma_tiles<float>>(d, a);
    else if (a->y->dtype == DTYPE_BF16)
        launch_16_bit<bf16_t>(d, a);
    else
        launch_16_bit<half_t>(d, a);
}
