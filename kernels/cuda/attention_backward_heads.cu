#include "kernels/cuda/attention_backward.cuh"

/* A block owns a head: keys and values stay in shared memory, and queries pass in chunks. The 5
 * products of s x s x 64 are computed once each:
 *   scores = q k^T, dp = dy v^T   a warp has 16 queries and 8 N keys
 *   dq = dt k                     16 queries and 64 / Q columns
 *   dv += p^T dy, dk += dt^T q    16 keys and all columns, in registers until the end
 * Between them, p and dt pass through shared memory in the activations' type. */
template <typename T, int N, int Q> struct head_blocks {
    enum {
        CHUNK = 8 * N,    /* queries */
        KEYS = 8 * N * Q, /* of the head, at most */
        WARPS = N / 2 * Q,
        THREADS = 32 * WARPS,
        COLUMNS = 64 / Q, /* of dq, per warp */
        TILES = (KEYS + 63) / 64,
        TILE = CHUNK * 64, /* elements of 64 columns of a chunk */
    };
    static_assert(WARPS * 16 == KEYS, "each warp has 16 keys");

    T keys[KEYS * 64], values[KEYS * 64];
    T queries[2][TILE], dys[2][TILE]; /* one in use, the next on its way */
    T p[TILES * TILE], dt[TILES * TILE], dq[TILE];
    /* Of each query and each warp's keys: the largest score, sums of p and of p dp. */
    float maximum[Q][CHUNK], total[Q][CHUNK], product[Q][CHUNK];
};

/* c[16][8 N] = rows[line .. +16][64] tile[8 N][64]^T */
template <typename T, int N>
DEVICE_INLINE void lines_times_lines(float (&c)[N][4], const T *rows, int line, const T *tile)
{
#pragma unroll
    for (int n = 0; n < N; n++)
        c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll 2
    for (int k = 0; k < 64; k += 16) {
        unsigned a[4], b[4];
        load_a(a, rows, line, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            load_b(b, tile, n * 8, k);
            mma_pair<T>(c[n], c[n + 1], a, b);
        }
    }
}

/* A of an mma from its transpose: lines k .. +16 of the tile are A's columns. */
template <typename T>
DEVICE_INLINE void load_a_transposed(unsigned (&a)[4], const T *tile, int k, int column)
{
    const int lane = (int)threadIdx.x % 32;
    ldmatrix_x4_trans(a, tile + tile_at(k + lane % 8 + lane / 16 * 8, column + lane / 8 % 2 * 8));
}

/* c[16][64] += transposed[CHUNK][16]^T lines[CHUNK][64] */
template <int CHUNK, typename T>
DEVICE_INLINE void add_transpose_times_lines(float (&c)[8][4], const T *transposed, int column,
                                             const T *lines)
{
#pragma unroll 1 /* unrolled, loads ahead would spill */
    for (int k = 0; k < CHUNK; k += 16) {
        unsigned a[4], b[4];
        load_a_transposed(a, transposed, k, column);
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
            load_b_transposed(b, lines, k, n * 8);
            mma_pair<T>(c[n], c[n + 1], a, b);
        }
    }
}

/* Of a warp's rows, of which a lane has g and g + 8, and its own keys only: what softmax needs. */
template <typename S, int N>
DEVICE_INLINE void put_sums(S *shared, int part, int row, float (&scores)[N][4],
                            const float (&dp)[N][4], int left, float log2_scale)
{
    const int t = threadIdx.x % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float largest = -INFINITY, total = 0, product = 0;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float *const score = &scores[n][half * 2 + e];
                if (n * 8 + t + e >= left)
                    *score = -INFINITY;
                largest = fmaxf(largest, *score);
            }
        largest = quad_max(largest);
        const float shift = left > 0 ? -largest * log2_scale : 0;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int e = half * 2; e < half * 2 + 2; e++) {
                const float p = power_of_2(fmaf(scores[n][e], log2_scale, shift));
                total += p;
                product = fmaf(p, dp[n][e], product);
            }
        total = quad_sum(total);
        product = quad_sum(product);
        if (t == 0) {
            shared->maximum[part][row + half * 8] = largest;
            shared->total[part][row + half * 8] = total;
            shared->product[part][row + half * 8] = product;
        }
    }
}

/* Of all keys. */
template <int Q, typename S>
DEVICE_INLINE row_sums sums_of_row(const S *shared, int row, float log2_scale)
{
    float largest = shared->maximum[0][row], total = 0, product = 0;
#pragma unroll
    for (int part = 1; part < Q; part++)
        largest = fmaxf(largest, shared->maximum[part][row]);
#pragma unroll
    for (int part = 0; part < Q; part++) {
        const float factor = power_of_2((shared->maximum[part][row] - largest) * log2_scale);
        total = fmaf(shared->total[part][row], factor, total);
        product = fmaf(shared->product[part][row], factor, product);
    }
    return {fmaf(largest, log2_scale, log2f(total)), product / total};
}

/* p and dt of a warp's rows and keys, in tiles of 64 columns. */
template <typename T, int N, typename S>
DEVICE_INLINE void put_weights(S *shared, const row_sums (&rows)[2], int row, int first,
                               const float (&scores)[N][4], const float (&dp)[N][4],
                               float log2_scale)
{
    const int t = threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int key = first + n * 8;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float p[2], dt[2];
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int i = half * 2 + e;
                p[e] = power_of_2(fmaf(scores[n][i], log2_scale, -rows[half].log2_sum));
                dt[e] = p[e] * (dp[n][i] - rows[half].mean);
            }
            const int at = key / 64 * S::TILE + tile_at(row + half * 8, key % 64) + t;
            *(unsigned *)(shared->p + at) = pack2<T>(p[0], p[1]);
            *(unsigned *)(shared->dt + at) = pack2<T>(dt[0], dt[1]);
        }
    }
}

/* c[16][8] += a[16][32] lines[32][8]: B of both mma in one load. */
template <typename T, typename S>
DEVICE_INLINE void add_columns(float (&c)[4], const S *shared, int line, int k, int column)
{
    const int lane = (int)threadIdx.x % 32;
    unsigned b[4];
    ldmatrix_x4_trans(b, shared->keys + tile_at(k + lane, column));
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int at = k + i * 16;
        const unsigned pair[2] = {b[i * 2], b[i * 2 + 1]};
        unsigned a[4];
        load_a(a, shared->dt + at / 64 * S::TILE, line, at % 64);
        mma_16x8x16<T>(c, a, pair);
    }
}

/* dq of 16 rows and COLUMNS columns, times each row's factor, to shared->dq. */
template <typename T, typename S>
DEVICE_INLINE void put_query_gradients(S *shared, int line, int column, const float (&factor)[2])
{
    enum { N = S::COLUMNS / 8 };
    float c[N][4] = {};
    if constexpr (N == 1) {
#pragma unroll 2
        for (int k = 0; k < S::KEYS; k += 32)
            add_columns<T>(c[0], shared, line, k, column);
    } else {
#pragma unroll 2
        for (int k = 0; k < S::KEYS; k += 16) {
            unsigned a[4], b[4];
            load_a(a, shared->dt + k / 64 * S::TILE, line, k % 64);
#pragma unroll
            for (int n = 0; n < N; n += 2) {
                load_b_transposed(b, shared->keys, k, column + n * 8);
                mma_pair<T>(c[n], c[n + 1], a, b);
            }
        }
    }
    const int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            *(unsigned *)(shared->dq + tile_at(line + g + half * 8, column + n * 8) + t) =
                pack2<T>(c[n][half * 2] * factor[half], c[n][half * 2 + 1] * factor[half]);
}

template <typename T, int N, int Q>
static __global__ void __launch_bounds__(16 * N * Q) head_backward(backward_problem<T> b)
{
    typedef head_blocks<T, N, Q> S;
    enum { CHUNK = S::CHUNK, THREADS = S::THREADS };
    DYNAMIC_SHARED(S, shared);
    const attention_problem<T> &a = b.a;
    const attention_head<T> head = attention_head_of(a, blockIdx.x);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
    const int line = warp % (N / 2) * 16, part = warp / (N / 2), first_key = part * 8 * N;
    const int ld_y = a.heads * 64, chunks = (a.s + CHUNK - 1) / CHUNK;
    const T *const head_dy = b.dy + head.row * ld_y + head.column;
    T *const head_dq = b.dq + (head.q - a.q);

    auto copy = [&](int chunk) {
        const int first = chunk * CHUNK;
        copy_tile<THREADS>(shared->queries[chunk % 2], CHUNK, head.q + first * a.ld_q, a.ld_q,
                           a.s - first, 64, head.uniform ? head.uniform + first : nullptr);
        copy_tile<THREADS>(shared->dys[chunk % 2], CHUNK, head_dy + (int64_t)first * ld_y, ld_y,
                           a.s - first);
        cp_async_commit();
    };
    auto write_query_gradients = [&](int chunk) {
        const int column = threadIdx.x % 8 * 8;
        for (int row = threadIdx.x / 8; row < CHUNK; row += THREADS / 8)
            if (chunk * CHUNK + row < a.s)
                store_vec(head_dq + (chunk * CHUNK + row) * a.ld_q + column,
                          load_vec(shared->dq + tile_at(row, column)));
    };
    copy_tile<THREADS>(shared->keys, S::KEYS, head.k, a.ld_k, a.s);
    copy_tile<THREADS>(shared->values, S::KEYS, head.v, a.ld_v, a.s);
    copy(0);
    float dk[8][4] = {}, dv[8][4] = {};
    for (int chunk = 0; chunk < chunks; chunk++) {
        cp_async_wait<0>();
        __syncthreads();
        if (chunk + 1 < chunks)
            copy(chunk + 1);
        if (chunk > 0)
            write_query_gradients(chunk - 1);
        const T *const queries = shared->queries[chunk % 2], *const dys = shared->dys[chunk % 2];
        {
            float scores[N][4], dp[N][4];
            row_sums rows[2];
            lines_times_lines(scores, queries, line, shared->keys + first_key * 64);
            lines_times_lines(dp, dys, line, shared->values + first_key * 64);
            put_sums(shared, part, line + g, scores, dp, a.s - first_key, a.log2_scale);
            __syncthreads();
            for (int half = 0; half < 2; half++)
                rows[half] = sums_of_row<Q>(shared, line + g + half * 8, a.log2_scale);
            put_weights<T>(shared, rows, line + g, first_key, scores, dp, a.log2_scale);
        }
        __syncthreads();
        float factor[2];
        for (int half = 0; half < 2; half++) {
            const int row = chunk * CHUNK + line + g + half * 8;
            factor[half] = head.uniform && row < a.s && head.uniform[row] ? 0 : a.scale;
        }
        put_query_gradients<T>(shared, line, part * S::COLUMNS, factor);
        const int own = warp * 16, tile = own / 64 * S::TILE;
        add_transpose_times_lines<CHUNK>(dv, shared->p + tile, own % 64, dys);
        add_transpose_times_lines<CHUNK>(dk, shared->dt + tile, own % 64, queries);
    }
    __syncthreads();
    write_query_gradients(chunks - 1);
    const int key = warp * 16;
    store_rows(b.dv + (head.v - a.v) + key * a.ld_v, a.ld_v, a.s - key, dv, 1, 1,
               shared->values + key * 64);
    store_rows(b.dk + (head.k - a.k) + key * a.ld_k, a.ld_k, a.s - key, dk, a.scale, a.scale,
               shared->keys + key * 64);
}

template <typename T, int N, int Q>
static bool launch(struct device *d, const backward_problem<T> &b, int64_t heads)
{
    typedef head_blocks<T, N, Q> S;
    if (!cluster_fits(head_backward<T, N, Q>, 1, S::THREADS, sizeof(S)))
        return false;
    LAUNCH((head_backward<T, N, Q>), (unsigned)heads, S::THREADS, sizeof(S), stream_of(d), b);
    return true;
}

template <typename T>
static bool launch(struct device *d, const backward_problem<T> &b, int64_t heads)
{
    return b.a.s <= 16    ? launch<T, 2, 1>(d, b, heads)
           : b.a.s <= 64  ? launch<T, 4, 2>(d, b, heads)
           : b.a.s <= 128 ? launch<T, 4, 4>(d, b, heads)
           : b.a.s <= 256 ? launch<T, 4, 8>(d, b, heads)
                          : false;
}

bool attention_backward_of_heads(struct device *d, const backward_problem<half_t> &b, int64_t heads)
{
    return launch(d, b, heads);
}

bool attention_backward_of_heads(struct device *d, const backward_problem<bf16_t> &b, int64_t heads)
{
    return launch(d, b, heads);
}
