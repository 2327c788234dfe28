#include "kernels/cuda/internal.cuh"

/* ---- forward: reads the tokens' rows and writes y. A token outside the table gives NaN. */

template <typename T, typename TABLE, int VEC>
static __global__ void take_rows(const int32_t *tokens, const TABLE *table, T *y, int64_t vectors,
                                 int64_t c, int64_t rows)
{
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (i >= vectors * VEC)
        return;
    const int64_t token = tokens[i / c];
    vec<float, VEC> f;
    if (token >= 0 && token < rows) {
        f = to_floats(load_vec<VEC>(table + token * c + i % c));
    } else {
#pragma unroll
        for (int j = 0; j < VEC; j++)
            f[j] = __int_as_float(0x7fffffff);
    }
    store_vec(y + i, from_floats<T>(f));
}

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

template <typename T, typename TABLE>
static void forward(struct device *d, const struct embedding_args *a, const struct tensor *weight)
{
    constexpr int VEC = 8;
    const int64_t c = weight->shape[1], count = count_of(a->y);
    const int32_t *tokens = (const int32_t *)a->tokens->data;
    const TABLE *table = (const TABLE *)weight->data;
    T *y = (T *)a->y->data;
    if (c % VEC == 0 && is_aligned(table) && is_aligned(y))
        LAUNCH((take_rows<T, TABLE, VEC>), (unsigned)divide_up(count / VEC, 128), 128, 0,
               stream_of(d), tokens, table, y, count / VEC, c, weight->shape[0]);
    else
        LAUNCH((take_rows<T, TABLE, 1>), (unsigned)divide_up(count, 128), 128, 0, stream_of(d),
               tokens, table, y, count, c, weight->shape[0]);
}

void cuda_embedding(struct device *d, const struct embedding_args *a)
{
    const struct tensor *table = a->table->working ? a->table->working : a->table;
    if (count_of(a->y))
        WITH_TYPE(a->y->dtype, T, WITH_TYPE(table->dtype, TABLE, (forward<T, TABLE>(d, a, table))));
}

/* ---- backward: dtable[token] += sum of dy over the token's positions, in their order
 *
 * Positions are sorted by token, then by position: a position's rank is the number of positions
 * before it, found by comparing all pairs, which is fast for some 10^4 positions. The sorted
 * positions are split into chunks; each block sums its chunk's runs of equal tokens. A run within
 * one chunk is added to dtable at once. For a run that spans chunks, the part of each chunk is kept
 * and the chunk in which the run begins adds them, so that no two blocks write to one row. dy is
 * read once. */

constexpr int SORT_THREADS = 256, CHUNK = 32, COLUMNS = 128;

struct sorted_position {
    int32_t token, position;
};

static __global__ void __launch_bounds__(SORT_THREADS)
    sort_positions(const int32_t *tokens, int n, sorted_position *sorted)
{
    __shared__ int32_t others[SORT_THREADS];
    const int mine = (int)(blockIdx.x * SORT_THREADS + threadIdx.x);
    const int32_t token = mine < n ? tokens[mine] : 0;
    int place = 0;
    for (int first = 0; first < n; first += SORT_THREADS) {
        const int count = min(SORT_THREADS, n - first);
        __syncthreads();
        if ((int)threadIdx.x < count)
            others[threadIdx.x] = tokens[first + threadIdx.x];
        __syncthreads();
        for (int i = 0; i < count; i++)
            place += others[i] < token || (others[i] == token && first + i < mine);
    }
    if (mine < n)
        sorted[place] = {token, mine};
}

/* parts [chunk, 2, c]: of the run that continues from the previous chunk, and of the one that
 * begins in this chunk and continues in the next. */
template <typename T>
static __global__ void __launch_bounds__(COLUMNS)
    sum_runs(const sorted_position *sorted, int n, const T *dy, float *dtable, float *parts,
             int64_t c, int64_t rows)
{
    __shared__ sorted_position chunk[CHUNK];
    const int first = (int)blockIdx.x * CHUNK, count = min(CHUNK, n - first);
    if ((int)threadIdx.x < count)
        chunk[threadIdx.x] = sorted[first + threadIdx.x];
    __syncthreads();
    const bool continues = first > 0 && sorted[first - 1].token == chunk[0].token;
    const bool goes_on = first + count < n && sorted[first + count].token == chunk[count - 1].token;
    const int64_t column = (int64_t)blockIdx.y * COLUMNS + threadIdx.x;
    if (column >= c)
        return;
    float *of_chunk = parts + (int64_t)blockIdx.x * 2 * c + column;
    float sum = 0;
    for (int i = 0, run = 0; i < count; i++) {
        sum += to_float(dy[(int64_t)chunk[i].position * c + column]);
        if (i + 1 < count && chunk[i + 1].token == chunk[i].token)
            continue;
        const int32_t token = chunk[i].token;
        if (run == 0 && continues)
            of_chunk[0] = sum;
        else if (i + 1 == count && goes_on)
            of_chunk[c] = sum;
        else if (token >= 0 && token < rows)
            dtable[token * c + column] += sum;
        run = i + 1;
        sum = 0;
    }
}

/* One block per chunk, for the run that begins in it and continues, if there is one. */
static __global__ void __launch_bounds__(COLUMNS)
    join_runs(const sorted_position *sorted, int n, float *dtable, const float *parts, int64_t c,
              int64_t rows)
{
    const int chunk = (int)blockIdx.x, first = chunk * CHUNK, next = first + CHUNK;
    if (next >= n)
        return;
    const int32_t token = sorted[next - 1].token;
    const bool began_before = first > 0 && sorted[first - 1].token == token;
    const int64_t column = (int64_t)blockIdx.y * COLUMNS + threadIdx.x;
    if (sorted[next].token != token || began_before || token < 0 || token >= rows || column >= c)
        return;
    float sum = parts[((int64_t)chunk * 2 + 1) * c + column];
    int64_t other = chunk + 1;
    for (int begin = next; begin < n && sorted[begin].token == token; begin += CHUNK, other++)
        sum += parts[other * 2 * c + column];
    dtable[token * c + column] += sum;
}

template <typename T>
static void backward(struct device *d, const struct embedding_backward_args *a)
{
    const int n = (int)count_of(a->forward.tokens);
    const int64_t c = a->dtable->shape[1], rows = a->dtable->shape[0];
    const int32_t *tokens = (const int32_t *)a->forward.tokens->data;
    float *dtable = (float *)a->dtable->data;
    const unsigned chunks = (unsigned)divide_up(n, CHUNK);
    const dim3 grid(chunks, (unsigned)divide_up(c, COLUMNS));
    const scratch positions(d, (size_t)n * sizeof(sorted_position));
    const scratch parts(d, (size_t)chunks * 2 * (size_t)c * sizeof(float));
    sorted_position *sorted = positions.as<sorted_position>();
    LAUNCH(sort_positions, (unsigned)divide_up(n, SORT_THREADS), SORT_THREADS, 0, stream_of(d),
           tokens, n, sorted);
    LAUNCH(sum_runs<T>, grid, COLUMNS, 0, stream_of(d), sorted, n, (const T *)a->dy->data, dtable,
           parts.as<float>(), c, rows);
    LAUNCH(join_runs, grid, COLUMNS, 0, stream_of(d), sorted, n, dtable, parts.as<float>(), c,
           rows);
}

void cuda_embedding_backward(struct device *d, const struct embedding_backward_args *a)
{
    if (a->dtable && count_of(a->dy))
        WITH_TYPE(a->dy->dtype, T, backward<T>(d, a));
}
