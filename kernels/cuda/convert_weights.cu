#include "kernels/cuda/internal.cuh"

/* Reads and writes every element once, in whole sectors, for many tensors per launch. The tables of
 * tensors are kernel arguments, so that a recording keeps them. */

#define THREADS 256

static bool is_other_order(const struct tensor *from, const struct tensor *to)
{
    return from->channels_last != to->channels_last && from->ndim == 4 &&
           from->shape[2] * from->shape[3] > 1 && from->shape[1] > 1;
}

/* The tensor of a table that this block works on: the last that begins at or before it. */
template <typename Table> static __device__ int find_mine(const Table &table)
{
    int low = 0, high = table.count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (table.entries[middle].first_block <= blockIdx.x)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* ---- the same order */

#define CAST_VECTOR  8
#define CAST_TURNS   4
#define CAST_BLOCK   (THREADS * CAST_VECTOR * CAST_TURNS) /* elements */
#define CAST_ENTRIES 100

struct cast_table {
    struct {
        const void *from;
        void *to;
        int64_t count;
        unsigned first_block;
        bool aligned;
    } entries[CAST_ENTRIES];
    int count;
};

template <typename From, typename To>
static __global__ void cast_weights(const __grid_constant__ cast_table table)
{
    const int mine = find_mine(table);
    const From *from = (const From *)table.entries[mine].from;
    To *to = (To *)table.entries[mine].to;
    const int64_t count = table.entries[mine].count;
    const int64_t begin = (int64_t)(blockIdx.x - table.entries[mine].first_block) * CAST_BLOCK;
    if (table.entries[mine].aligned && begin + CAST_BLOCK <= count) {
        vec<From, CAST_VECTOR> x[CAST_TURNS];
#pragma unroll
        for (int i = 0; i < CAST_TURNS; i++)
            x[i] = load_vec<CAST_VECTOR>(from + begin + (i * THREADS + threadIdx.x) * CAST_VECTOR);
#pragma unroll
        for (int i = 0; i < CAST_TURNS; i++)
            store_vec(to + begin + (i * THREADS + threadIdx.x) * CAST_VECTOR,
                      from_floats<To>(to_floats(x[i])));
        return;
    }
    for (int64_t i = begin + threadIdx.x; i < min(begin + CAST_BLOCK, count); i += THREADS)
        to[i] = from_float<To>(to_float(from[i]));
}

static bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

template <typename From, typename To>
static void launch_cast(struct device *d, const struct cast_table &table, unsigned blocks)
{
    LAUNCH((cast_weights<From, To>), blocks, THREADS, 0, stream_of(d), table);
}

/* ---- [co, ci, k] to [co, k, ci] or back, k = kh * kw */

/* A block moves `planes` output channels of `channels` input channels of `taps` taps through shared
 * memory. A row there is one (co, ci); an odd pitch avoids bank conflicts along columns. */
#define TILE_FLOATS     4608
#define TILE_TAPS       32
#define REORDER_ENTRIES 90

struct reorder_table {
    struct {
        const void *from;
        void *to;
        int co, ci, k, planes, channels;
        unsigned first_block;
    } entries[REORDER_ENTRIES];
    int count;
};

struct tile {
    int64_t base; /* of its first output channel, in elements */
    int planes, c0, channels, k0, taps, ci, k, pitch;
};

/* f(element in memory, element in the tile) over the tile, taps fastest. */
template <typename F> static __device__ void for_taps(const tile &t, F f)
{
    const int rows = t.planes * t.channels;
    if (t.pitch == t.k) { /* planes > 1 only if the tile has all channels: one range of memory */
        const int64_t begin = t.base + (int64_t)t.c0 * t.k;
        for (int i = threadIdx.x; i < rows * t.k; i += THREADS)
            f(begin + i, i);
        return;
    }
    for (int row = threadIdx.x / 32; row < rows; row += THREADS / 32) {
        const int plane = row / t.channels, c = row - plane * t.channels;
        const int64_t begin = t.base + ((int64_t)plane * t.ci + t.c0 + c) * t.k + t.k0;
        for (int tap = threadIdx.x % 32; tap < t.taps; tap += 32)
            f(begin + tap, row * t.pitch + tap);
    }
}

/* The same, channels fastest. */
template <typename F> static __device__ void for_channels(const tile &t, F f)
{
    for (int row = threadIdx.x / 32; row < t.planes * t.taps; row += THREADS / 32) {
        const int plane = row / t.taps, tap = row - plane * t.taps;
        const int64_t begin = t.base + ((int64_t)plane * t.k + t.k0 + tap) * t.ci + t.c0;
        for (int c = threadIdx.x % 32; c < t.channels; c += 32)
            f(begin + c, (plane * t.channels + c) * t.pitch + tap);
    }
}

template <typename From, typename To, bool CHANNELS_LAST>
static __global__ void __launch_bounds__(THREADS, 6)
    reorder_weights(const __grid_constant__ reorder_table table)
{
    __shared__ float kept[TILE_FLOATS];
    const int mine = find_mine(table);
    const auto &e = table.entries[mine];
    const From *from = (const From *)e.from;
    To *to = (To *)e.to;
    const int tap_tiles = (e.k + TILE_TAPS - 1) / TILE_TAPS;
    const int channel_tiles = (e.ci + e.channels - 1) / e.channels;
    int block = (int)(blockIdx.x - e.first_block);
    tile t;
    t.k0 = block % tap_tiles * TILE_TAPS;
    block /= tap_tiles;
    t.c0 = block % channel_tiles * e.channels;
    const int first = block / channel_tiles * e.planes;
    t.base = (int64_t)first * e.ci * e.k;
    t.planes = min(e.planes, e.co - first);
    t.channels = min(e.channels, e.ci - t.c0);
    t.taps = min(TILE_TAPS, e.k - t.k0);
    t.ci = e.ci;
    t.k = e.k;
    t.pitch = t.taps | 1;
    auto load = [=](int64_t at, int i) { kept[i] = to_float(from[at]); };
    auto store = [=](int64_t at, int i) { to[at] = from_float<To>(kept[i]); };
    if (CHANNELS_LAST)
        for_taps(t, load);
    else
        for_channels(t, load);
    __syncthreads();
    if (CHANNELS_LAST)
        for_channels(t, store);
    else
        for_taps(t, store);
}

template <typename From, typename To>
static void launch_reorder(struct device *d, const struct reorder_table &table, bool channels_last,
                           unsigned blocks)
{
    if (channels_last)
        LAUNCH((reorder_weights<From, To, true>), blocks, THREADS, 0, stream_of(d), table);
    else
        LAUNCH((reorder_weights<From, To, false>), blocks, THREADS, 0, stream_of(d), table);
}

/* ---- tables */

static bool is_of(const struct tensor *from, const struct tensor *to, enum dtype a, enum dtype b)
{
    return from->dtype == a && to->dtype == b && count_of(from) > 0;
}

static void cast_all(struct device *d, const struct convert_weights_args *a, enum dtype from,
                     enum dtype to)
{
    struct cast_table table;
    int64_t blocks = 0;
    table.count = 0;
    for (int i = 0; i < a->count; i++) {
        if (is_of(a->from[i], a->to[i], from, to) && !is_other_order(a->from[i], a->to[i])) {
            auto &e = table.entries[table.count++];
            e.from = a->from[i]->data;
            e.to = a->to[i]->data;
            e.count = count_of(a->from[i]);
            e.aligned = is_aligned(e.from) && is_aligned(e.to);
            e.first_block = (unsigned)blocks;
            blocks += divide_up(e.count, CAST_BLOCK);
        }
        if (table.count == CAST_ENTRIES || (i == a->count - 1 && table.count > 0)) {
            WITH_TYPE(from, From,
                      WITH_TYPE(to, To, launch_cast<From, To>(d, table, (unsigned)blocks)));
            table.count = 0;
            blocks = 0;
        }
    }
}

/* The part of a kernel that one block converts. */
static void choose_tile(int co, int ci, int k, int *planes, int *channels)
{
    const int rows = TILE_FLOATS / ((k < TILE_TAPS ? k : TILE_TAPS) | 1);
    const int tiles = (int)divide_up(ci, rows);
    *channels = (int)divide_up(ci, tiles);
    *planes = tiles > 1 || k > TILE_TAPS ? 1 : rows / ci < co ? rows / ci : co;
}

static void reorder_all(struct device *d, const struct convert_weights_args *a, enum dtype from,
                        enum dtype to, bool channels_last)
{
    struct reorder_table table;
    int64_t blocks = 0;
    table.count = 0;
    for (int i = 0; i < a->count; i++) {
        const struct tensor *t = a->from[i];
        if (is_of(t, a->to[i], from, to) && is_other_order(t, a->to[i]) &&
            a->to[i]->channels_last == channels_last) {
            auto &e = table.entries[table.count++];
            e.from = t->data;
            e.to = a->to[i]->data;
            e.co = (int)t->shape[0];
            e.ci = (int)t->shape[1];
            e.k = (int)(t->shape[2] * t->shape[3]);
            choose_tile(e.co, e.ci, e.k, &e.planes, &e.channels);
            e.first_block = (unsigned)blocks;
            blocks +=
                divide_up(e.co, e.planes) * divide_up(e.ci, e.channels) * divide_up(e.k, TILE_TAPS);
        }
        if (table.count == REORDER_ENTRIES || (i == a->count - 1 && table.count > 0)) {
            WITH_TYPE(
                from, From,
                WITH_TYPE(to, To,
                          launch_reorder<From, To>(d, table, channels_last, (unsigned)blocks)));
            table.count = 0;
            blocks = 0;
        }
    }
}

void cuda_convert_weights(struct device *d, const struct convert_weights_args *a)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static_assert(sizeof(cast_table) <= 4096 && sizeof(reorder_table) <= 4096,
                  "what a kernel's arguments may take");
    for (int i = 0; i < a->count; i++)
        if (a->from[i]->dtype > DTYPE_BF16 || a->to[i]->dtype > DTYPE_BF16 ||
            count_of(a->from[i]) != count_of(a->to[i]))
            cuda_die("CUDA backend: weights that cannot be converted (a bug)");
    for (enum dtype from : types)
        for (enum dtype to : types) {
            cast_all(d, a, from, to);
            reorder_all(d, a, from, to, true);
            reorder_all(d, a, from, to, false);
        }
}
