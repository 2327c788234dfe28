#include "kernels/cuda/attention_backward.cuh"

extern "C" {
#include "kernels/backward.h"
}

/* Of long heads, and of any width. y is not kept, so a block that owns queries goes through the
 * keys twice: for each row's sums of p and p dp, then for dq. A block that owns keys goes through
 * the queries once, using those sums. Each gradient is written by one block: 9 products of s x s x
 * d instead of 5, but always in the same order, and only two numbers per row pass through memory.
 */

template <typename T> struct long_problem : backward_problem<T> {
    row_sums *rows; /* [n, heads, s] */
};

/* ---- heads of width 64 on tensor cores, as in the forward pass */

/* Replaces the scores of a warp's rows by (dp - mean) times p. */
template <int N>
DEVICE_INLINE void score_gradients(float (&scores)[N][4], const float (&dp)[N][4],
                                   const row_sums (&rows)[2], float log2_scale, int left)
{
    const int t = threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const row_sums &row = rows[e / 2];
            const float p = power_of_2(fmaf(scores[n][e], log2_scale, -row.log2_sum));
            scores[n][e] = n * 8 + t + e % 2 < left ? p * (dp[n][e] - row.mean) : 0;
        }
}

/* A block owns 16 query rows per warp. */
template <typename T, int WARPS, int KEYS>
__global__ void __launch_bounds__(WARPS * 32, WARPS == 1 ? 10 : 3)
    flash_queries_backward(long_problem<T> b, int blocks_per_head)
{
    enum { THREADS = WARPS * 32, ROWS = WARPS * 16, N = KEYS / 8 };
    DYNAMIC_SHARED(T, queries); /* [ROWS][64], then dy [ROWS][64] */
    T *const dys = queries + ROWS * 64;
    T *const tiles = dys + ROWS * 64; /* 2 of keys [KEYS][64], values [KEYS][64] */
    const attention_problem<T> &a = b.a;
    const int64_t index = blockIdx.x / blocks_per_head;
    const attention_head<T> head = attention_head_of(a, index);
    const int first_row = blockIdx.x % blocks_per_head * ROWS;
    const int line = threadIdx.x / 32 * 16, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4 * 2;
    const int64_t ld_y = (int64_t)a.heads * 64;
    const int tiles_of_keys = (a.s + KEYS - 1) / KEYS, steps = 2 * tiles_of_keys;

    auto copy = [&](int step) {
        T *const tile = tiles + step % 2 * (2 * KEYS * 64);
        const int first = step % tiles_of_keys * KEYS;
        copy_tile<THREADS>(tile, KEYS, head.k + first * a.ld_k, a.ld_k, a.s - first);
        copy_tile<THREADS>(tile + KEYS * 64, KEYS, head.v + first * a.ld_v, a.ld_v, a.s - first);
        cp_async_commit();
    };
    copy_tile<THREADS>(queries, ROWS, head.q + first_row * a.ld_q, a.ld_q, a.s - first_row, 64,
                       head.uniform ? head.uniform + first_row : nullptr);
    copy_tile<THREADS>(dys, ROWS, b.dy + (head.row + first_row) * ld_y + head.column, ld_y,
                       a.s - first_row);
    copy(0);

    unsigned q[4][4], dy[4][4];
    float scores[N][4], dp[N][4], dq[8][4] = {};
    float maximum[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, product[2] = {0, 0};
    row_sums rows[2];
    for (int step = 0; step < steps; step++) {
        cp_async_wait<0>();
        __syncthreads();
        if (step + 1 < steps)
            copy(step + 1);
        if (step == 0) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                load_a(q[k], queries, line, k * 16);
                load_a(dy[k], dys, line, k * 16);
            }
        }
        const T *const keys = tiles + step % 2 * (2 * KEYS * 64);
        const int left = a.s - step % tiles_of_keys * KEYS;
        rows_times_lines(scores, q, keys);
        rows_times_lines(dp, dy, keys + KEYS * 64);
        if (step < tiles_of_keys) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float largest = maximum[half];
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        float *const score = &scores[n][half * 2 + e];
                        if (left < KEYS && n * 8 + t + e >= left)
                            *score = -INFINITY;
                        largest = fmaxf(largest, *score);
                    }
                largest = quad_max(largest);
                const float correction = power_of_2((maximum[half] - largest) * a.log2_scale);
                const float shift = -largest * a.log2_scale;
                maximum[half] = largest;
                total[half] *= correction;
                product[half] *= correction;
#pragma unroll
                for (int n = 0; n < N; n++)
#pragma unroll
                    for (int e = half * 2; e < half * 2 + 2; e++) {
                        const float p = power_of_2(fmaf(scores[n][e], a.log2_scale, shift));
                        total[half] += p;
                        product[half] = fmaf(p, dp[n][e], product[half]);
                    }
            }
        }
        if (step == tiles_of_keys - 1) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float sum = quad_sum(total[half]);
                rows[half] = {fmaf(maximum[half], a.log2_scale, log2f(sum)),
                              quad_sum(product[half]) / sum};
                const int row = first_row + line + g + half * 8;
                if (t == 0 && row < a.s)
                    b.rows[index * a.s + row] = rows[half];
            }
        }
        if (step >= tiles_of_keys) {
            score_gradients(scores, dp, rows, a.log2_scale, left);
            add_rows_times_tile(dq, scores, keys);
        }
    }
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = first_row + line + g + half * 8;
        factor[half] = head.uniform && row < a.s && head.uniform[row] ? 0 : a.scale;
    }
    store_rows(b.dq + (head.q - a.q) + (first_row + line) * a.ld_q, a.ld_q, a.s - first_row - line,
               dq, factor[0], factor[1], queries + line * 64);
}

/* A block owns 16 key rows per warp; scores are transposed: a query is a column. */
template <typename T, int WARPS, int QUERIES>
__global__ void __launch_bounds__(WARPS * 32, WARPS == 1 ? 10 : 3)
    flash_keys_backward(long_problem<T> b, int blocks_per_head)
{
    enum { THREADS = WARPS * 32, ROWS = WARPS * 16, N = QUERIES / 8 };
    DYNAMIC_SHARED(T, keys); /* [ROWS][64], then values [ROWS][64] */
    T *const values = keys + ROWS * 64;
    T *const tiles = values + ROWS * 64; /* 2 of queries [QUERIES][64], dy [QUERIES][64] */
    /* 2 of log2_sum [QUERIES], mean [QUERIES]: together, both would stay in registers. */
    float *const sums_of_tiles = (float *)(tiles + 4 * QUERIES * 64);
    const attention_problem<T> &a = b.a;
    const int64_t index = blockIdx.x / blocks_per_head;
    const attention_head<T> head = attention_head_of(a, index);
    const int first_row = blockIdx.x % blocks_per_head * ROWS;
    const int line = threadIdx.x / 32 * 16, t = threadIdx.x % 4 * 2;
    const int ld_y = a.heads * 64;
    const row_sums *const head_sums = b.rows + index * a.s;
    const T *const head_dy = b.dy + head.row * ld_y + head.column;
    const int steps = (a.s + QUERIES - 1) / QUERIES;

    auto copy = [&](int step) {
        T *const tile = tiles + step % 2 * (2 * QUERIES * 64);
        const int first = step * QUERIES;
        copy_tile<THREADS>(tile, QUERIES, head.q + first * a.ld_q, a.ld_q, a.s - first, 64,
                           head.uniform ? head.uniform + first : nullptr);
        copy_tile<THREADS>(tile + QUERIES * 64, QUERIES, head_dy + (int64_t)first * ld_y, ld_y,
                           a.s - first);
        cp_async_commit();
        float *const sums = sums_of_tiles + step % 2 * (2 * QUERIES);
        for (int i = threadIdx.x; i < QUERIES; i += THREADS) {
            const row_sums row = first + i < a.s ? head_sums[first + i] : row_sums{0, 0};
            sums[i] = row.log2_sum;
            sums[QUERIES + i] = row.mean;
        }
    };
    copy_tile<THREADS>(keys, ROWS, head.k + first_row * a.ld_k, a.ld_k, a.s - first_row);
    copy_tile<THREADS>(values, ROWS, head.v + first_row * a.ld_v, a.ld_v, a.s - first_row);
    copy(0);

    unsigned k[4][4], v[4][4];
    float dk[8][4] = {}, dv[8][4] = {};
    for (int step = 0; step < steps; step++) {
        cp_async_wait<0>();
        __syncthreads();
        if (step + 1 < steps)
            copy(step + 1);
        if (step == 0) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                load_a(k[i], keys, line, i * 16);
                load_a(v[i], values, line, i * 16);
            }
        }
        const T *const queries = tiles + step % 2 * (2 * QUERIES * 64);
        const T *const dys = queries + QUERIES * 64;
        const float *const log2_sums = sums_of_tiles + step % 2 * (2 * QUERIES);
        const float *const means = log2_sums + QUERIES;
        float p[N][4], dt[N][4];
        rows_times_lines(p, k, queries);
        /* Padding rows have p = 1, but dy = 0 and q = 0. */
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                p[n][i] = power_of_2(fmaf(p[n][i], a.log2_scale, -log2_sums[n * 8 + t + i % 2]));
        add_rows_times_tile(dv, p, dys);
        rows_times_lines(dt, v, dys);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                dt[n][i] = p[n][i] * (dt[n][i] - means[n * 8 + t + i % 2]);
        add_rows_times_tile(dk, dt, queries);
    }
    const int row = first_row + line;
    store_rows(b.dv + (head.v - a.v) + row * a.ld_v, a.ld_v, a.s - row, dv, 1, 1,
               values + line * 64);
    store_rows(b.dk + (head.k - a.k) + row * a.ld_k, a.ld_k, a.s - row, dk, a.scale, a.scale,
               keys + line * 64);
}

template <typename T, int WARPS, int TILE>
void launch_flash(struct device *d, const long_problem<T> &b, int64_t heads)
{
    const int rows = WARPS * 16;
    const int64_t blocks_per_head = divide_up(b.a.s, rows);
    const size_t bytes = (2 * rows + 4 * TILE) * 64 * sizeof(T);
    LAUNCH((flash_queries_backward<T, WARPS, TILE>), (unsigned)(heads * blocks_per_head),
           WARPS * 32, bytes, stream_of(d), b, (int)blocks_per_head);
    LAUNCH((flash_keys_backward<T, WARPS, TILE>), (unsigned)(heads * blocks_per_head), WARPS * 32,
           bytes + 2 * TILE * sizeof(row_sums), stream_of(d), b, (int)blocks_per_head);
}

template <typename T> void launch_flash(struct device *d, const long_problem<T> &b, int64_t heads)
{
    if (b.a.s <= 16)
        launch_flash<T, 1, 16>(d, b, heads);
    else
        launch_flash<T, 4, 32>(d, b, heads);
}

/* ---- heads of any width: a block owns 64 rows and 64 CHUNKS columns of their gradients */

template <typename TILES> struct tiled_backward_shared {
    staged_tiles<TILES> tiles;
    float scores[64 * SCORES_PITCH], dp[64 * SCORES_PITCH];
    row_sums rows[64];
    typename TILES::element p[TILES::weights_in_place ? 8 : TILES::tile_elements];
    typename TILES::element dt[TILES::weights_in_place ? 8 : TILES::tile_elements];
};

/* Without a number of blocks, ptxas aims at more of them for some GPUs, and spills. */
template <typename TILES, int CHUNKS>
__global__ void __launch_bounds__(TILED_THREADS, CHUNKS == 1 ? 2 : 1)
    tiled_queries_backward(long_problem<typename TILES::type> b, int column_blocks)
{
    DYNAMIC_SHARED(tiled_backward_shared<TILES>, shared);
    typedef typename TILES::type T;
    typedef typename TILES::element element;
    const attention_problem<T> &a = b.a;
    const int column = blockIdx.x % column_blocks * (64 * CHUNKS);
    const int row_blocks = (a.s + 63) / 64, block = blockIdx.x / column_blocks;
    const int first_row = block % row_blocks * 64, rows_left = a.s - first_row;
    const attention_head<T> head = attention_head_of(a, block / row_blocks);
    const int64_t ld_y = (int64_t)a.heads * a.d;
    const T *const dy = b.dy + (head.row + first_row) * ld_y + head.column;
    const int32_t *const uniform = head.uniform ? head.uniform + first_row : nullptr;
    element *const dt = TILES::weights_in_place ? (element *)shared->dp : shared->dt;

    /* 4 adjacent lanes share a row's scores. */
    const int row = threadIdx.x / 4, quarter = threadIdx.x % 4;
    float maximum = -INFINITY, total = 0, product = 0;
    row_sums of_row = {0, 0};
    float dq[CHUNKS][16] = {};
    for (int pass = 0; pass < 2; pass++) {
        for (int first = 0; first < a.s; first += 64) {
            const int count = a.s - first;
            tile_scores<TILES>(shared->scores, shared->tiles, a.d, head.q + first_row * a.ld_q,
                               a.ld_q, rows_left, uniform, head.k + first * a.ld_k, a.ld_k, count,
                               nullptr);
            tile_scores<TILES>(shared->dp, shared->tiles, a.d, dy, ld_y, rows_left, nullptr,
                               head.v + first * a.ld_v, a.ld_v, count, nullptr);
            __syncthreads();
            const float *const scores = shared->scores + row * SCORES_PITCH + quarter;
            const float *const dp = shared->dp + row * SCORES_PITCH + quarter;
            if (pass == 0) {
                float largest = maximum;
#pragma unroll
                for (int i = 0; i < 16; i++)
                    if (i * 4 + quarter < count)
                        largest = fmaxf(largest, scores[i * 4]);
                largest = quad_max(largest);
                const float correction = power_of_2((maximum - largest) * a.log2_scale);
                maximum = largest;
                total *= correction;
                product *= correction;
#pragma unroll
                for (int i = 0; i < 16; i++)
                    if (i * 4 + quarter < count) {
                        const float p = power_of_2((scores[i * 4] - largest) * a.log2_scale);
                        total += p;
                        product = fmaf(p, dp[i * 4], product);
                    }
                continue; /* the next scores follow a barrier */
            }
#pragma unroll
            for (int i = 0; i < 16; i++) {
                const int key = i * 4 + quarter;
                const float p = power_of_2(fmaf(scores[i * 4], a.log2_scale, -of_row.log2_sum));
                *TILES::weight_at(dt, row, key) =
                    from_float<element>(key < count ? p * (dp[i * 4] - of_row.mean) : 0);
            }
            __syncthreads();
            tile_accumulate<TILES, CHUNKS>(dq, shared->tiles, dt, column, a.d,
                                           head.k + first * a.ld_k, a.ld_k, count, nullptr);
        }
        if (pass == 0) {
            total = quad_sum(total);
            of_row = {fmaf(maximum, a.log2_scale, log2f(total)), quad_sum(product) / total};
            if (column == 0 && quarter == 0 && row < rows_left)
                b.rows[(int64_t)(block / row_blocks) * a.s + first_row + row] = of_row;
        }
    }
    tile_store<TILES, CHUNKS>(b.dq + (head.q - a.q) + first_row * a.ld_q, a.ld_q, rows_left, column,
                              a.d, dq, [&](int r) { return uniform && uniform[r] ? 0 : a.scale; });
}

template <typename TILES, int CHUNKS>
__global__ void __launch_bounds__(TILED_THREADS)
    tiled_keys_backward(long_problem<typename TILES::type> b, int column_blocks)
{
    DYNAMIC_SHARED(tiled_backward_shared<TILES>, shared);
    typedef typename TILES::type T;
    typedef typename TILES::element element;
    const attention_problem<T> &a = b.a;
    const int column = blockIdx.x % column_blocks * (64 * CHUNKS);
    const int row_blocks = (a.s + 63) / 64, block = blockIdx.x / column_blocks;
    const int first_row = block % row_blocks * 64, rows_left = a.s - first_row;
    const attention_head<T> head = attention_head_of(a, block / row_blocks);
    const int64_t ld_y = (int64_t)a.heads * a.d;
    element *const p = TILES::weights_in_place ? (element *)shared->scores : shared->p;
    element *const dt = TILES::weights_in_place ? (element *)shared->dp : shared->dt;

    const int row = threadIdx.x / 4, quarter = threadIdx.x % 4;
    float dk[CHUNKS][16] = {}, dv[CHUNKS][16] = {};
    for (int first = 0; first < a.s; first += 64) {
        const int count = a.s - first;
        const T *const q = head.q + first * a.ld_q;
        const T *const dy = b.dy + (head.row + first) * ld_y + head.column;
        const int32_t *const uniform = head.uniform ? head.uniform + first : nullptr;
        if (threadIdx.x < 64)
            shared->rows[threadIdx.x] =
                (int)threadIdx.x < count
                    ? b.rows[(int64_t)(block / row_blocks) * a.s + first + threadIdx.x]
                    : row_sums{0, 0};
        tile_scores<TILES>(shared->scores, shared->tiles, a.d, head.k + first_row * a.ld_k, a.ld_k,
                           rows_left, nullptr, q, a.ld_q, count, uniform);
        tile_scores<TILES>(shared->dp, shared->tiles, a.d, head.v + first_row * a.ld_v, a.ld_v,
                           rows_left, nullptr, dy, ld_y, count, nullptr);
        __syncthreads();
#pragma unroll 4
        for (int i = 0; i < 16; i++) {
            const int query = i * 4 + quarter, at = row * SCORES_PITCH + query;
            const row_sums of_query = shared->rows[query];
            const float weight =
                power_of_2(fmaf(shared->scores[at], a.log2_scale, -of_query.log2_sum));
            *TILES::weight_at(dt, row, query) =
                from_float<element>(weight * (shared->dp[at] - of_query.mean));
            *TILES::weight_at(p, row, query) = from_float<element>(weight);
        }
        __syncthreads();
        tile_accumulate<TILES, CHUNKS>(dv, shared->tiles, p, column, a.d, dy, ld_y, count, nullptr);
        tile_accumulate<TILES, CHUNKS>(dk, shared->tiles, dt, column, a.d, q, a.ld_q, count,
                                       uniform);
    }
    tile_store<TILES, CHUNKS>(
        b.dv + (head.v - a.v) + first_row * a.ld_v, a.ld_v, rows_left, column, a.d, dv,
        [](int) { return 1.f; });
    tile_store<TILES, CHUNKS>(b.dk + (head.k - a.k) + first_row * a.ld_k, a.ld_k, rows_left, column,
                              a.d, dk, [&](int) { return a.scale; });
}

template <typename TILES, int CHUNKS, typename T>
void launch_tiled(struct device *d, const long_problem<T> &b, int64_t heads)
{
    const int64_t column_blocks = divide_up(b.a.d, 64 * CHUNKS);
    const unsigned blocks = (unsigned)(heads * divide_up(b.a.s, 64) * column_blocks);
    LAUNCH((tiled_queries_backward<TILES, CHUNKS>), blocks, TILED_THREADS,
           sizeof(tiled_backward_shared<TILES>), stream_of(d), b, (int)column_blocks);
    LAUNCH((tiled_keys_backward<TILES, CHUNKS>), blocks, TILED_THREADS,
           sizeof(tiled_backward_shared<TILES>), stream_of(d), b, (int)column_blocks);
}

template <typename TILES, typename T>
void launch_tiled(struct device *d, const long_problem<T> &b, int64_t heads)
{
    if (b.a.d <= 64)
        launch_tiled<TILES, 1>(d, b, heads);
    else
        launch_tiled<TILES, 4>(d, b, heads);
}

template <typename T>
void launch(struct device *d, const struct attention_backward_args *args, bool aligned)
{
    const struct attention_args *a = &args->forward;
    const int64_t heads = a->n * a->heads;
    const backward_problem<T> whole = {attention_problem_of<T>(a), (const T *)args->dy->data,
                                       (T *)args->dq, (T *)args->dk, (T *)args->dv};
    if constexpr (sizeof(T) == 2)
        if (aligned && a->d == 64 && attention_backward_of_heads(d, whole, heads))
            return;
    const scratch rows(d, (size_t)(heads * a->s) * sizeof(row_sums));
    const long_problem<T> b = {whole, rows.as<row_sums>()};
    if constexpr (sizeof(T) == 2) {
        if (aligned && a->d == 64) {
            launch_flash(d, b, heads);
            return;
        }
        if (aligned) {
            launch_tiled<mma_tiles<T>>(d, b, heads);
            return;
        }
    }
    launch_tiled<fma_tiles<T>>(d, b, heads);
}

extern "C" void cuda_attention_backward(struct device *d, const struct attention_backward_args *a)
{
    const struct attention_args *f = &a->forward;
    if (!a->dq || f->n == 0)
        return;
    const bool aligned = attention_aligned(f) && attention_aligned(a->dq, f->ld_q, f->d) &&
                         attention_aligned(a->dk, f->ld_k, f->d) &&
                         attention_aligned(a->dv, f->ld_v, f->d) &&
                         attention_aligned(a->dy->data, f->heads * f->d, f->d);
    WITH_TYPE(a->dy->dtype, T, launch<T>(d, a, aligned));
}
