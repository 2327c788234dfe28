#ifndef CCLD_KERNELS_CUDA_ATTENTION_CUH
#define CCLD_KERNELS_CUDA_ATTENTION_CUH

/* What the forward and backward passes share. Scores exist only in registers and shared memory: a
 * block owns some rows and loops over the others in tiles, and rescales the softmax whenever a
 * larger score appears (Dao, "FlashAttention-2", arXiv 2307.08691).
 *
 * The query of a uniform row is read as zeros: all its scores are 0, its weights 1/s, and its part
 * of dk is 0, so only the code that writes dq handles such rows. Rows from s on are zeros as well,
 * and the scores of such keys are -infinity. */

#include "kernels/cuda/internal.cuh"

/* attention_args in the form kernels take. */
template <typename T> struct attention_problem {
    const T *q, *k, *v;
    int64_t ld_q, ld_k, ld_v;
    const int32_t *uniform; /* or null */
    int s, heads, d;
    float scale;      /* of scores: 1 / sqrt(d) */
    float log2_scale; /* scale * log2(e): weights are powers of 2 */
};

template <typename T> attention_problem<T> attention_problem_of(const struct attention_args *a)
{
    const float scale = (float)(1 / sqrt((double)a->d));
    return {(const T *)a->q,
            (const T *)a->k,
            (const T *)a->v,
            a->ld_q,
            a->ld_k,
            a->ld_v,
            a->uniform ? (const int32_t *)a->uniform->data : nullptr,
            (int)a->s,
            (int)a->heads,
            (int)a->d,
            scale,
            (float)(1 / sqrt((double)a->d) * M_LOG2E)};
}

/* Whether the columns of all heads allow 16-byte accesses. */
inline bool attention_aligned(const void *p, int64_t ld, int64_t d)
{
    return (uintptr_t)p % 16 == 0 && ld % 8 == 0 && d % 8 == 0;
}
inline bool attention_aligned(const struct attention_args *a)
{
    return attention_aligned(a->q, a->ld_q, a->d) && attention_aligned(a->k, a->ld_k, a->d) &&
           attention_aligned(a->v, a->ld_v, a->d) &&
           attention_aligned(a->y->data, a->heads * a->d, a->d);
}

/* One head of one image: its row 0 and its first column in a row of y. */
template <typename T> struct attention_head {
    const T *q, *k, *v;
    const int32_t *uniform;
    int64_t row, column;
};
template <typename T>
DEVICE_INLINE attention_head<T> attention_head_of(const attention_problem<T> &a, int64_t index)
{
    const int64_t row = index / a.heads * a.s, column = index % a.heads * a.d;
    return {a.q + row * a.ld_q + column,
            a.k + row * a.ld_k + column,
            a.v + row * a.ld_v + column,
            a.uniform ? a.uniform + row : nullptr,
            row,
            column};
}

DEVICE_INLINE float power_of_2(float x)
{
#ifdef CUDA_ON_HOST
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* Over the four lanes that share the rows of a fragment. */
DEVICE_INLINE float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
DEVICE_INLINE float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/* ---- tiles of 64 columns of 16-bit elements in shared memory
 *
 * Groups of 8 columns are permuted by row, so that one group of 8 consecutive rows is in different
 * banks. column is a multiple of 8. */

DEVICE_INLINE int tile_at(int row, int column)
{
    return row * 64 + (column ^ (row & 7) * 8);
}

/* Starts copying `rows` rows of `columns` columns (a multiple of 8, at most 64). Rows from `count`
 * on, skipped rows and the other columns become zero. */
template <int THREADS, typename T>
DEVICE_INLINE void copy_tile(T *tile, int rows, const T *from, int64_t ld, int count,
                             int columns = 64, const int32_t *skip = nullptr)
{
    const int column = threadIdx.x % 8 * 8;
#pragma unroll 1 /* unrolled, the addresses would take half of the registers */
    for (int row = threadIdx.x / 8; row < rows; row += THREADS / 8) {
        const bool there = row < count && column < columns && !(skip && skip[row]);
        cp_async_16(tile + tile_at(row, column), there ? from + row * ld + column : from, there);
    }
}

/* A of an mma: rows row .. +16, columns column .. +16. */
template <typename T>
DEVICE_INLINE void load_a(unsigned (&a)[4], const T *tile, int row, int column)
{
    const int lane = (int)threadIdx.x % 32;
    ldmatrix_x4(a, tile + tile_at(row + lane % 16, column + lane / 16 * 8));
}
/* B of two adjacent mma, n .. +16, k .. +16; line n of the tile is column n of B. */
template <typename T> DEVICE_INLINE void load_b(unsigned (&b)[4], const T *tile, int n, int k)
{
    const int lane = (int)threadIdx.x % 32;
    ldmatrix_x4(b, tile + tile_at(n + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
}
/* The same if line k of the tile is row k of B. */
template <typename T>
DEVICE_INLINE void load_b_transposed(unsigned (&b)[4], const T *tile, int k, int n)
{
    const int lane = (int)threadIdx.x % 32;
    ldmatrix_x4_trans(b, tile + tile_at(k + lane % 16, n + lane / 16 * 8));
}
template <typename T>
DEVICE_INLINE void mma_pair(float (&c0)[4], float (&c1)[4], const unsigned (&a)[4],
                            const unsigned (&b)[4])
{
    const unsigned b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
    mma_16x8x16<T>(c0, a, b0);
    mma_16x8x16<T>(c1, a, b1);
}

/* ---- heads of width 64: a warp's 16 rows times a tile */

/* c[16][8 N] = a[16][64] tile[8 N][64]^T */
template <typename T, int N>
DEVICE_INLINE void rows_times_lines(float (&c)[N][4], const unsigned (&a)[4][4], const T *tile)
{
#pragma unroll
    for (int n = 0; n < N; n++)
        c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll
    for (int k = 0; k < 4; k++)
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned b[4];
            load_b(b, tile, n * 8, k * 16);
            mma_pair<T>(c[n], c[n + 1], a[k], b);
        }
}

/* Converts C's fragments of 16 columns to an A. */
template <typename T>
DEVICE_INLINE void a_from_c(unsigned (&a)[4], const float (&c0)[4], const float (&c1)[4])
{
    a[0] = pack2<T>(c0[0], c0[1]);
    a[1] = pack2<T>(c0[2], c0[3]);
    a[2] = pack2<T>(c1[0], c1[1]);
    a[3] = pack2<T>(c1[2], c1[3]);
}

/* c[16][64] += weights[16][8 N] tile[8 N][64], the weights rounded to T */
template <typename T, int N>
DEVICE_INLINE void add_rows_times_tile(float (&c)[8][4], const float (&weights)[N][4],
                                       const T *tile)
{
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
        unsigned a[4];
        a_from_c<T>(a, weights[2 * k], weights[2 * k + 1]);
#pragma unroll
        for (int n = 0; n < 8; n += 2) {
            unsigned b[4];
            load_b_transposed(b, tile, k * 16, n * 8);
            mma_pair<T>(c[n], c[n + 1], a, b);
        }
    }
}

/* Writes a warp's c[16][64], its rows multiplied by `low` (the lane's row g) and `high` (g + 8), to
 * the first `count` rows at `to`. Goes through 16 lines of a tile that no other warp uses, so that
 * stores are 16 bytes wide. */
template <typename T>
DEVICE_INLINE void store_rows(T *to, int64_t ld, int count, const float (&c)[8][4], float low,
                              float high, T *lines)
{
    const int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < 8; n++) {
        *(unsigned *)(lines + tile_at(g, n * 8) + t) = pack2<T>(c[n][0] * low, c[n][1] * low);
        *(unsigned *)(lines + tile_at(g + 8, n * 8) + t) = pack2<T>(c[n][2] * high, c[n][3] * high);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = i * 4 + lane / 8, column = lane % 8 * 8;
        if (row < count)
            store_vec(to + row * ld + column, load_vec(lines + tile_at(row, column)));
    }
    __syncwarp();
}

/* ---- heads of any width: 256 threads, tiles of 64x64
 *
 * There are two kinds of tiles: float for FMA instructions, and 16-bit for tensor cores if
 * everything is aligned. Both have
 *   element        of the tiles
 *   tile_elements  of one tile
 *   stage, commit  start filling a tile with rows and columns of a matrix
 *   await          wait for all but the STAGES - 1 latest commits
 *   multiply       sums += a b^T over the 64 columns of a and b
 *   put            store these sums as scores [64][SCORES_PITCH]
 *   weight_at      address of weight [row][column]
 *   accumulate     sums += weights b, over the 64 columns of the weights and lines of b
 *   row, column    of accumulate's sum i, of 16 per thread */

enum { TILED_THREADS = 256, SCORES_PITCH = 68 };

template <typename T> struct fma_tiles {
    typedef T type;
    typedef float element;
    enum { PITCH = SCORES_PITCH, STAGES = 1, tile_elements = 64 * PITCH };
    static constexpr bool weights_in_place = true; /* they may replace the scores */

    DEVICE_INLINE void stage(float *tile, const T *from, int64_t ld, int count, int columns,
                             const int32_t *skip = nullptr)
    {
        const int column = threadIdx.x % 64;
#pragma unroll 2
        for (int row = threadIdx.x / 64; row < 64; row += TILED_THREADS / 64) {
            const bool there = row < count && column < columns && !(skip && skip[row]);
            tile[row * PITCH + column] = there ? to_float(from[row * ld + column]) : 0;
        }
    }
    DEVICE_INLINE void commit()
    {
    }
    DEVICE_INLINE void await()
    {
        __syncthreads();
    }
    /* Thread (tx, ty) of 16x16 owns rows 4 ty .. +4 and columns tx, tx + 16, tx + 32, tx + 48, so
     * that the 8 lines that lanes read together are in different banks. */
    DEVICE_INLINE void multiply(float (&sums)[16], const float *a, const float *b)
    {
        const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 1
        for (int k = 0; k < 64; k += 4) {
            vec<float, 4> x[4], y[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x[i] = load_vec(a + (ty * 4 + i) * PITCH + k);
                y[i] = load_vec(b + (tx + i * 16) * PITCH + k);
            }
#pragma unroll
            for (int i = 0; i < 16; i++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    sums[i] = fmaf(x[i / 4][e], y[i % 4][e], sums[i]);
        }
    }
    DEVICE_INLINE void put(float *scores, const float (&sums)[16])
    {
        const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
        for (int i = 0; i < 16; i++)
            scores[(ty * 4 + i / 4) * SCORES_PITCH + tx + i % 4 * 16] = sums[i];
    }
    DEVICE_INLINE float *weight_at(float *weights, int row, int column)
    {
        return weights + row * SCORES_PITCH + column;
    }
    DEVICE_INLINE int row(int i)
    {
        return threadIdx.x / 16 * 4 + i / 4;
    }
    DEVICE_INLINE int column(int i)
    {
        return threadIdx.x % 16 * 4 + i % 4;
    }
    DEVICE_INLINE void accumulate(float (&sums)[16], const float *weights, const float *b)
    {
        const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 1
        for (int k = 0; k < 64; k += 4) {
            vec<float, 4> x[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[i] = load_vec(weights + (ty * 4 + i) * SCORES_PITCH + k);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const vec<float, 4> y = load_vec(b + (k + e) * PITCH + tx * 4);
#pragma unroll
                for (int i = 0; i < 16; i++)
                    sums[i] = fmaf(x[i / 4][e], y[i % 4], sums[i]);
            }
        }
    }
};

/* Warp w owns rows 16 (w % 4) .. +16 and columns 32 (w / 4) .. +32 of scores and of results. */
template <typename T> struct mma_tiles {
    typedef T type;
    typedef T element;
    enum { STAGES = 2, tile_elements = 64 * 64 };
    static constexpr bool weights_in_place = false;

    DEVICE_INLINE int first_row()
    {
        return threadIdx.x / 32 % 4 * 16;
    }
    DEVICE_INLINE int first_column()
    {
        return threadIdx.x / 128 * 32;
    }
    DEVICE_INLINE void stage(T *tile, const T *from, int64_t ld, int count, int columns,
                             const int32_t *skip = nullptr)
    {
        copy_tile<TILED_THREADS>(tile, 64, from, ld, count, columns, skip);
    }
    DEVICE_INLINE void commit()
    {
        cp_async_commit();
    }
    DEVICE_INLINE void await()
    {
        cp_async_wait<STAGES - 1>();
        __syncthreads();
    }
    template <typename LOAD_A, typename LOAD_B>
    DEVICE_INLINE void add(float (&sums)[16], LOAD_A load_a_of, LOAD_B load_b_of)
    {
        float(*c)[4] = reinterpret_cast<float(*)[4]>(sums);
#pragma unroll
        for (int k = 0; k < 64; k += 16) {
            unsigned a[4], b[4];
            load_a_of(a, k);
#pragma unroll
            for (int n = 0; n < 4; n += 2) {
                load_b_of(b, k, first_column() + n * 8);
                mma_pair<T>(c[n], c[n + 1], a, b);
            }
        }
    }
    DEVICE_INLINE void multiply(float (&sums)[16], const T *a, const T *b)
    {
        add(
            sums, [=](unsigned(&r)[4], int k) { load_a(r, a, first_row(), k); },
            [=](unsigned(&r)[4], int k, int n) { load_b(r, b, n, k); });
    }
    DEVICE_INLINE void accumulate(float (&sums)[16], const T *weights, const T *b)
    {
        add(
            sums, [=](unsigned(&r)[4], int k) { load_a(r, weights, first_row(), k); },
            [=](unsigned(&r)[4], int k, int n) { load_b_transposed(r, b, k, n); });
    }
    DEVICE_INLINE int row(int i)
    {
        return first_row() + threadIdx.x % 32 / 4 + i % 4 / 2 * 8;
    }
    DEVICE_INLINE int column(int i)
    {
        return first_column() + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
    }
    DEVICE_INLINE void put(float *scores, const float (&sums)[16])
    {
#pragma unroll
        for (int i = 0; i < 16; i++)
            scores[row(i) * SCORES_PITCH + column(i)] = sums[i];
    }
    DEVICE_INLINE T *weight_at(T *weights, int row, int column)
    {
        return weights + tile_at(row, column & ~7) + column % 8;
    }
};

/* The tiles being staged: STAGES - 1 pairs are in flight while one is in use. */
template <typename TILES> struct staged_tiles {
    typename TILES::element of[TILES::STAGES][2][TILES::tile_elements];
};

/* scores = a b^T over all d columns, of 64 rows each (or a_count, b_count if fewer). With keep_a,
 * the first tile of `a` is already loaded. All threads see the scores after the next barrier, which
 * is the caller's. */
template <typename TILES, typename T>
DEVICE_INLINE void tile_scores(float *scores, staged_tiles<TILES> &tiles, int d, const T *a,
                               int64_t ld_a, int a_count, const int32_t *a_skip, const T *b,
                               int64_t ld_b, int b_count, const int32_t *b_skip,
                               bool keep_a = false)
{
    float sums[16] = {};
    auto stage = [&](int i) {
        auto &pair = tiles.of[i % TILES::STAGES];
        const int column = i * 64;
        if (column < d) { /* uniform across threads */
            if (!keep_a)
                TILES::stage(pair[0], a + column, ld_a, a_count, d - column, a_skip);
            TILES::stage(pair[1], b + column, ld_b, b_count, d - column, b_skip);
        }
        TILES::commit();
    };
#pragma unroll
    for (int i = 0; i < TILES::STAGES - 1; i++)
        stage(i);
    for (int i = 0; i * 64 < d; i++) {
        stage(i + TILES::STAGES - 1);
        TILES::await();
        TILES::multiply(sums, tiles.of[i % TILES::STAGES][0], tiles.of[i % TILES::STAGES][1]);
        __syncthreads();
    }
    TILES::put(scores, sums);
}

/* sums[c] += weights b[.., 64 c ..], for CHUNKS times 64 columns of b from `column` on, below d. */
template <typename TILES, int CHUNKS, typename T>
DEVICE_INLINE void tile_accumulate(float (&sums)[CHUNKS][16], staged_tiles<TILES> &tiles,
                                   const typename TILES::element *weights, int column, int d,
                                   const T *b, int64_t ld, int count, const int32_t *skip)
{
    auto stage = [&](int c) {
        const int left = d - column - c * 64;
        if (c < CHUNKS && left > 0)
            TILES::stage(tiles.of[c % TILES::STAGES][1], b + column + c * 64, ld, count, left,
                         skip);
        TILES::commit();
    };
#pragma unroll
    for (int c = 0; c < TILES::STAGES - 1; c++)
        stage(c);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        if (column + c * 64 < d) { /* uniform across threads */
            stage(c + TILES::STAGES - 1);
            TILES::await();
            TILES::accumulate(sums[c], weights, tiles.of[c % TILES::STAGES][1]);
            __syncthreads();
        }
    }
}

/* Writes the sums times factor(row) to the first `count` rows at `to`, below column d. */
template <typename TILES, int CHUNKS, typename T, typename FACTOR>
DEVICE_INLINE void tile_store(T *to, int64_t ld, int count, int column, int d,
                              const float (&sums)[CHUNKS][16], FACTOR factor)
{
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const int row = TILES::row(i), at = column + c * 64 + TILES::column(i);
            if (row < count && at < d)
                to[row * ld + at] = from_float<T>(sums[c][i] * factor(row));
        }
}

#endif
