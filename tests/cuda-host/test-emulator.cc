/* Tests the emulator: kernels with known results, and kernels that it must refuse. TAP. */
#include "tests/cuda-host/fiber.h"
#include "tests/cuda-host/testing.h"

static std::vector<float> noise(size_t n)
{
    static uint32_t state = 1;
    std::vector<float> x(n);
    for (float &f : x) {
        state = state * 1664525 + 1013904223;
        f = (float)(state >> 8) / (1 << 23) - 1;
    }
    return x;
}

/* ---- 16-bit floats */

template <typename T> static int wrong_round_trips(uint16_t infinity)
{
    int wrong = 0;
    for (unsigned bits = 0; bits < 65536; bits++) {
        const T x = cuda_host_bits<T>((uint16_t)bits);
        const bool nan = (bits & 0x7fff) > infinity;
        const float f = to_float(x);
        const uint16_t back = cuda_host_bits<uint16_t>(from_float<T>(f));
        wrong += nan ? !(f != f) || back != 0x7fff : back != bits;
    }
    return wrong;
}

/* Finds every float's neighbors in T by their bits; it must round to the nearer, or the even one.
 */
template <typename T> static int wrong_roundings(uint16_t infinity)
{
    int wrong = 0;
    for (unsigned bits = 0; bits + 1 < infinity; bits++) {
        const float low = to_float(cuda_host_bits<T>((uint16_t)bits));
        const float high = to_float(cuda_host_bits<T>((uint16_t)(bits + 1)));
        const float middle = (float)(((double)low + high) / 2);
        const unsigned even = bits % 2 ? bits + 1 : bits;
        const struct {
            float x;
            unsigned expected;
        } cases[] = {{middle, even},
                     {nextafterf(middle, 0), bits},
                     {nextafterf(middle, INFINITY), bits + 1}};
        for (const auto &c : cases) {
            wrong += cuda_host_bits<uint16_t>(from_float<T>(c.x)) != c.expected;
            wrong += cuda_host_bits<uint16_t>(from_float<T>(-c.x)) != (c.expected | 0x8000);
        }
    }
    return wrong;
}

static void test_half()
{
    tap_ok(wrong_round_trips<half_t>(0x7c00) == 0, "every half survives a round trip");
    tap_ok(wrong_round_trips<bf16_t>(0x7f80) == 0, "every bfloat16 survives a round trip");
    tap_ok(wrong_roundings<half_t>(0x7c00) == 0, "half rounds to nearest even");
    tap_ok(wrong_roundings<bf16_t>(0x7f80) == 0, "bfloat16 rounds to nearest even");
    tap_ok(to_float(from_float<half_t>(65519.0f)) == 65504 &&
               isinf(to_float(from_float<half_t>(65520.0f))),
           "65520 becomes infinity in half");
    tap_ok(to_float(cuda_host_bits<half_t>((uint16_t)0x3555)) == 0.333251953125f &&
               to_float(cuda_host_bits<half_t>((uint16_t)1)) == 0x1p-24f &&
               to_float(cuda_host_bits<bf16_t>((uint16_t)0x4049)) == 3.140625f,
           "known values");
}

/* ---- blocks and grids */

template <typename T, int N> static __global__ void scale(T *x, float by, int n)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (i >= n)
        return;
    vec<float, N> v = to_floats(load_vec<N>(x + i));
    for (int k = 0; k < N; k++)
        v[k] *= by;
    store_vec(x + i, from_floats<T>(v));
}

static __global__ void where(int *seen)
{
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    atomicAdd(&seen[block * threads + (unsigned)thread_rank()], 1);
}

static __global__ void reverse_tile(float *x)
{
    DYNAMIC_SHARED(float, tile);
    const int i = (int)threadIdx.x, n = (int)blockDim.x;
    for (int round = 0; round < 3; round++) {
        tile[i] = x[blockIdx.x * blockDim.x + threadIdx.x];
        __syncthreads();
        x[blockIdx.x * blockDim.x + threadIdx.x] = tile[n - 1 - i];
        __syncthreads();
    }
}

/* Lacks a barrier that it needs. */
static __global__ void race(float *y)
{
    __shared__ float s[64];
    s[threadIdx.x] = 1;
    y[threadIdx.x] = s[63 - threadIdx.x];
}

static __global__ void sums(const float *x, float *y, int n)
{
    float s[2] = {0, 0};
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        const float v = x[(int)blockIdx.x * n + i];
        s[0] += v;
        s[1] += v * v;
    }
    block_sum(s);
    const float again = block_sum(1.0f);
    y[blockIdx.x * blockDim.x + threadIdx.x] = s[0] + s[1] + again;
}

static __global__ void votes(int *y)
{
    const int i = (int)threadIdx.x;
    y[i * 4] = __syncthreads_count(i % 3 == 0);
    y[i * 4 + 1] = __syncthreads_or(i == 50);
    y[i * 4 + 2] = __syncthreads_and(i != 50);
    y[i * 4 + 3] = (int)__ballot_sync(0xffffffffu, i % 5 == 0);
}

static void test_blocks()
{
    const int n = 10000;
    std::vector<float> x = noise(n);
    device_array<float> d(x);
    LAUNCH((scale<float, 4>), (n / 4 + 127) / 128, 128, 0, stream, d.data, 2.0f, n);
    std::vector<float> y = d.read();
    bool same = true;
    for (int i = 0; i < n; i++)
        same &= y[i] == 2 * x[i];
    tap_ok(same, "a plain kernel");

    device_array<int> seen(3 * 4 * 5 * 7 * 3 * 2);
    cuda_check(cudaMemsetAsync(seen.data, 0, seen.n * sizeof(int), stream));
    LAUNCH(where, dim3(3, 4, 5), dim3(7, 3, 2), 0, stream, seen.data);
    same = true;
    for (int count : seen.read())
        same &= count == 1;
    tap_ok(same, "every thread of every block runs once");

    device_array<float> tiles(x);
    LAUNCH(reverse_tile, n / 100, 100, 100 * sizeof(float), stream, tiles.data);
    y = tiles.read();
    same = true;
    for (int i = 0; i < n; i++)
        same &= y[i] == x[i / 100 * 100 + 99 - i % 100];
    tap_ok(same, "barriers and dynamic shared memory");

    device_array<float> raced(64);
    LAUNCH(race, 1, 64, 0, stream, raced.data);
    int numbers = 0;
    for (float v : raced.read())
        numbers += v == 1;
    tap_ok(numbers > 0 && numbers < 64,
           "a missing barrier shows: %d of 64 threads read the written value", numbers);

    const int rows = 9, columns = 1000, threads = 96;
    device_array<float> total(rows * threads);
    LAUNCH(sums, rows, threads, 0, stream, d.data, total.data, columns);
    std::vector<float> t = total.read(), scaled = d.read();
    double worst = 0;
    same = true;
    for (int r = 0; r < rows; r++) {
        double sum = threads;
        for (int i = 0; i < columns; i++) {
            const double v = scaled[r * columns + i];
            sum += v + v * v;
        }
        for (int i = 0; i < threads; i++) {
            same &= t[r * threads + i] == t[r * threads];
            worst = fmax(worst, fabs(t[r * threads + i] - sum) / sum);
        }
    }
    tap_ok(same, "block_sum is the same in all threads");
    tap_ok(worst <= 1e-5, "block_sum is right to %g", worst);

    device_array<int> voted(4 * 64);
    LAUNCH(votes, 1, 64, 0, stream, voted.data);
    std::vector<int> v = voted.read();
    same = true;
    for (int i = 0; i < 64; i++) {
        unsigned ballot = 0;
        for (int l = 0; l < 32; l++)
            ballot |= (unsigned)((i / 32 * 32 + l) % 5 == 0) << l;
        same &= v[i * 4] == 22 && v[i * 4 + 1] == 1 && v[i * 4 + 2] == 0 &&
                (unsigned)v[i * 4 + 3] == ballot;
    }
    tap_ok(same, "votes in blocks and warps");
}

/* ---- warps */

static __global__ void shuffles(int *y)
{
    const int i = (int)threadIdx.x;
    int *out = y + i * 8;
    out[0] = __shfl_sync(0xffffffffu, i, 5);
    out[1] = __shfl_xor_sync(0xffffffffu, i, 3);
    out[2] = __shfl_up_sync(0xffffffffu, i, 2);
    out[3] = __shfl_down_sync(0xffffffffu, i, 7);
    out[4] = __shfl_sync(0xffffffffu, i, 1, 8);
    out[5] = __shfl_down_sync(0xffffffffu, i, 3, 16);
    out[6] = (int)__shfl_up_sync(0xffffffffu, (double)i, 3, 4);
    out[7] = -1;
    if (i % 32 < 10) /* part of a warp, while the other lanes continue */
        out[7] = __shfl_xor_sync(0x3ffu, i, 1);
    __syncwarp();
}

static void test_warps()
{
    device_array<int> d(64 * 8);
    LAUNCH(shuffles, 1, 64, 0, stream, d.data);
    const std::vector<int> y = d.read();
    int wrong[8] = {};
    for (int i = 0; i < 64; i++) {
        const int l = i % 32, w = i - l;
        const int expected[8] = {w + 5,
                                 i ^ 3,
                                 l < 2 ? i : i - 2,
                                 l > 24 ? i : i + 7,
                                 i / 8 * 8 + 1,
                                 l % 16 > 12 ? i : i + 3,
                                 l % 4 < 3 ? i : i - 3,
                                 l < 10 ? i ^ 1 : -1};
        for (int k = 0; k < 8; k++)
            wrong[k] += y[i * 8 + k] != expected[k];
    }
    const char *names[8] = {"shfl",
                            "shfl_xor",
                            "shfl_up",
                            "shfl_down",
                            "shfl of 8",
                            "shfl_down of 16",
                            "shfl_up of 4, double",
                            "part of a warp"};
    for (int k = 0; k < 8; k++)
        tap_ok(wrong[k] == 0, "shuffles: %s", names[k]);
}

/* ---- matrices: C[16][8] = A[16][16] B[16][8], fragments by hand, or from shared memory */

template <typename T>
static __global__ void product(const T *a, const T *b, const float *c0, float *c, int how)
{
    __shared__ __align__(16) T sa[16 * 24];
    __shared__ __align__(16) T sb[16 * 24];
    const int l = (int)threadIdx.x, g = l / 4, t = l % 4 * 2;
    for (int i = l; i < 256; i += 32)
        sa[i / 16 * 24 + i % 16] = a[i];
    for (int i = l; i < 128; i += 32)
        if (how == 2)
            sb[i / 8 * 24 + i % 8] = b[i]; /* [k][n] */
        else
            sb[i % 8 * 24 + i / 8] = b[i]; /* [n][k] */
    __syncwarp();
    unsigned fa[4], fb[2], pair[4];
    if (how == 0) {
        for (int i = 0; i < 4; i++) {
            const T *p = a + (g + i % 2 * 8) * 16 + t + i / 2 * 8;
            fa[i] = pack2<T>(to_float(p[0]), to_float(p[1]));
        }
        for (int i = 0; i < 2; i++)
            fb[i] =
                pack2<T>(to_float(b[(t + i * 8) * 8 + g]), to_float(b[(t + i * 8 + 1) * 8 + g]));
    } else {
        ldmatrix_x4(fa, &sa[l % 16 * 24 + l / 16 * 8]);
        if (how == 1)
            ldmatrix_x4(pair, &sb[l % 8 * 24 + l / 8 % 2 * 8]);
        else
            ldmatrix_x4_trans(pair, &sb[l % 16 * 24]);
        fb[0] = pair[0];
        fb[1] = pair[1];
    }
    float fc[4];
    for (int i = 0; i < 4; i++)
        fc[i] = c0[(g + i / 2 * 8) * 8 + t + i % 2];
    mma_16x8x16<T>(fc, fa, fb);
    for (int i = 0; i < 4; i++)
        c[(g + i / 2 * 8) * 8 + t + i % 2] = fc[i];
}

template <typename T> static void test_product(const char *type)
{
    std::vector<T> a, b;
    for (float f : noise(256))
        a.push_back(from_float<T>(f));
    for (float f : noise(128))
        b.push_back(from_float<T>(f));
    const std::vector<float> c0 = noise(128);
    device_array<T> da(a), db(b);
    device_array<float> d0(c0), dc(128);
    const char *from[3] = {"registers", "ldmatrix x4", "ldmatrix x4_trans"};
    for (int how = 0; how < 3; how++) {
        LAUNCH(product<T>, 1, 32, 0, stream, da.data, db.data, d0.data, dc.data, how);
        const std::vector<float> c = dc.read();
        double worst = 0;
        for (int m = 0; m < 16; m++)
            for (int n = 0; n < 8; n++) {
                double sum = c0[m * 8 + n];
                for (int k = 0; k < 16; k++)
                    sum += (double)to_float(a[m * 16 + k]) * to_float(b[k * 8 + n]);
                const double apart = fabs(sum - c[m * 8 + n]);
                worst = apart <= worst ? worst : apart;
            }
        tap_ok(worst <= 1e-5, "mma of %s from %s is right to %g", type, from[how], worst);
    }
}

/* r[i] of x4_trans against the matrices themselves. */
static __global__ void transposed(unsigned short *y)
{
    __shared__ __align__(16) unsigned short s[32][8];
    const int l = (int)threadIdx.x;
    for (int k = 0; k < 8; k++)
        s[l][k] = (unsigned short)(l * 8 + k);
    __syncwarp();
    unsigned r[4];
    ldmatrix_x4_trans(r, s[l]);
    for (int i = 0; i < 4; i++) {
        y[(i * 32 + l) * 2] = (unsigned short)r[i];
        y[(i * 32 + l) * 2 + 1] = (unsigned short)(r[i] >> 16);
    }
}

static void test_transposed()
{
    device_array<unsigned short> d(256);
    LAUNCH(transposed, 1, 32, 0, stream, d.data);
    const std::vector<unsigned short> y = d.read();
    int wrong = 0;
    for (int i = 0; i < 4; i++)
        for (int l = 0; l < 32; l++)
            for (int k = 0; k < 2; k++)
                wrong += y[(i * 32 + l) * 2 + k] != (i * 8 + l % 4 * 2 + k) * 8 + l / 4;
    tap_ok(wrong == 0, "ldmatrix x4_trans");
}

/* ---- asynchronous copies */

static __global__ void staged(const float *x, float *y, int tiles)
{
    __shared__ __align__(16) float s[2][128];
    const int i = (int)threadIdx.x;
    const auto fetch = [&](int tile) {
        if (tile < tiles)
            cp_async_16(&s[tile % 2][i * 4], x + tile * 128 + i * 4, tile != 1);
        cp_async_commit();
    };
    fetch(0);
    for (int tile = 0; tile < tiles; tile++) {
        fetch(tile + 1);
        cp_async_wait<1>();
        __syncthreads();
        for (int k = 0; k < 4; k++)
            y[tile * 128 + k * 32 + i] = s[tile % 2][k * 32 + i];
        __syncthreads();
    }
}

static __global__ void unwaited(const float *x, float *y)
{
    __shared__ __align__(16) float s[128];
    cp_async_16(&s[threadIdx.x * 4], x + threadIdx.x * 4);
    cp_async_commit();
    __syncthreads();
    for (int k = 0; k < 4; k++)
        y[k * 32 + (int)threadIdx.x] = s[k * 32 + (int)threadIdx.x];
}

static void test_async()
{
    const std::vector<float> x = noise(5 * 128);
    device_array<float> dx(x), dy(5 * 128);
    LAUNCH(staged, 1, 32, 0, stream, dx.data, dy.data, 5);
    std::vector<float> y = dy.read();
    bool same = true;
    for (int i = 0; i < 5 * 128; i++)
        same &= y[i] == (i / 128 == 1 ? 0 : x[i]);
    tap_ok(same, "cp_async with two tiles, one of zeros");
    LAUNCH(unwaited, 1, 32, 0, stream, dx.data, dy.data);
    y = dy.read();
    tap_ok(y[0] != x[0] && y[0] != y[0], "a copy is not made until it is waited for: %g", y[0]);
}

/* ---- streams and graphs */

static void test_order()
{
    float *pinned;
    cuda_check(cudaMallocHost(&pinned, 4 * sizeof(float)));
    device_array<float> d(4);
    for (int i = 0; i < 4; i++)
        pinned[i] = 1;
    cuda_check(cudaMemcpyAsync(d.data, pinned, 16, cudaMemcpyHostToDevice, stream));
    pinned[0] = 7; /* too early: the copy is still pending */
    const std::vector<float> y = d.read();
    tap_ok(y[0] == 7 && y[1] == 1, "copies from pinned memory happen later");
    cuda_check(cudaFreeHost(pinned));

    int ran = 0;
    cuda_host::host_task(stream, [&] { ran++; });
    tap_ok(ran == 0, "tasks run only when something waits");
    cuda_check(cudaStreamSynchronize(stream));
    tap_ok(ran == 1, "and run once");
    tap_ok(cudaMemcpyAsync(d.data + 2, d.data, 16, cudaMemcpyDeviceToDevice, stream) ==
                   cudaErrorInvalidValue &&
               cudaMemcpy(&ran, &ran, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue,
           "copies out of bounds or in the wrong direction are refused");
    cudaGetLastError();
    size_t unused, total;
    cuda_check(cudaMemGetInfo(&unused, &total));
    void *p;
    tap_ok(cudaMalloc(&p, unused + 1) == cudaErrorMemoryAllocation && !p &&
               cudaGetLastError() == cudaErrorMemoryAllocation &&
               cudaGetLastError() == cudaSuccess && total - unused >= d.n * 4,
           "allocating more than the device has fails");
}

static void test_graph()
{
    const int n = 256;
    device_array<float> a(std::vector<float>(n, 1)), b(n);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float by = 2;
    int ran = 0;
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    LAUNCH((scale<float, 4>), 1, 64, 0, stream, a.data, by, n);
    by = 100; /* arguments were copied */
    cuda_check(cudaMemcpyAsync(b.data, a.data, n * 4, cudaMemcpyDeviceToDevice, stream));
    cuda_check(cudaMemsetAsync(b.data, 0, 4, stream));
    cuda_host::host_task(stream, [&] { ran++; });
    cuda_check(cudaStreamEndCapture(stream, &graph));
    size_t nodes;
    cuda_check(cudaGraphGetNodes(graph, nullptr, &nodes));
    cuda_check(cudaGraphInstantiate(&exec, graph, 0));
    cuda_check(cudaGraphDestroy(graph));
    std::vector<float> x = a.read();
    tap_ok(x[0] == 1 && ran == 0 && nodes == 4, "captured work does not run");
    for (int i = 0; i < 3; i++)
        cuda_check(cudaGraphLaunch(exec, stream));
    x = a.read();
    const std::vector<float> y = b.read();
    tap_ok(x[0] == 8 && x[n - 1] == 8 && y[0] == 0 && y[1] == 8 && ran == 3,
           "a graph runs three times");
    cuda_check(cudaGraphExecDestroy(exec));

    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    void *p;
    const bool refused = cudaMalloc(&p, 16) == cudaErrorStreamCaptureUnsupported &&
                         cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated;
    tap_ok(refused && cudaGetLastError() != cudaSuccess, "allocation invalidates a capture");
    LAUNCH((scale<float, 4>), 1, 64, 0, stream, a.data, 2.0f, n);
    tap_ok(a.read()[1] == 16, "the stream works afterwards");

    cudaStream_t side;
    cudaEvent_t fork, join;
    cuda_check(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    cuda_check(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    cuda_check(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    cuda_check(cudaEventRecord(fork, stream));
    cuda_check(cudaStreamWaitEvent(side, fork, 0));
    LAUNCH((scale<float, 4>), 1, 64, 0, side, a.data, 3.0f, n);
    cuda_check(cudaEventRecord(join, side));
    cuda_check(cudaStreamWaitEvent(stream, join, 0));
    cuda_check(cudaStreamEndCapture(stream, &graph));
    cuda_check(cudaGraphInstantiate(&exec, graph, 0));
    cuda_check(cudaGraphLaunch(exec, stream));
    tap_ok(a.read()[1] == 48, "a capture that forks to another stream");
    cuda_check(cudaGraphExecDestroy(exec));
    cuda_check(cudaGraphDestroy(graph));
    cuda_check(cudaEventDestroy(fork));
    cuda_check(cudaEventDestroy(join));
    cuda_check(cudaStreamDestroy(side));
}

/* ---- what must be refused */

static __global__ void half_leaves()
{
    if (threadIdx.x < 16)
        return;
    __syncthreads();
}
static __global__ void half_shuffles(int *y)
{
    if (threadIdx.x < 16)
        y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 1);
}
static __global__ void without_itself(int *y)
{
    y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0);
}
static __global__ void two_barriers()
{
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
}
static __global__ void beyond_shared(int n)
{
    DYNAMIC_SHARED(int, s);
    s[(int)threadIdx.x + n] = 1;
}
#ifdef WITH_ASAN
static __global__ void beyond_device(float *x, int n)
{
    x[n] = 1;
}
#endif
static __global__ void misaligned(float *x)
{
    store_vec(x, load_vec(x + 1));
}
static __global__ void fragment_from_device(float *x)
{
    unsigned r[4];
    ldmatrix_x4(r, x);
    x[threadIdx.x] = (float)r[0];
}
static __global__ void nothing()
{
}

static void test_refusals()
{
    device_array<int> y(64);
    device_array<float> x(64);
    refused(
        "a barrier that some threads never reach",
        "kernel 'half_leaves', block (0,0,0): deadlock: of 64 threads 48 wait at __syncthreads",
        [&] { LAUNCH(half_leaves, 1, 64, 0, stream); });
    refused(
        "a shuffle with missing lanes", "16 wait at __shfl_xor_sync",
        [&] { LAUNCH(half_shuffles, 1, 32, 0, stream, y.data); });
    refused(
        "a mask without its own lane", "without its own lane",
        [&] { LAUNCH(without_itself, 1, 32, 0, stream, y.data); });
    refused(
        "different barriers", "is at __syncthreads of",
        [&] { LAUNCH(two_barriers, 1, 64, 0, stream); });
    refused(
        "a misaligned vector", "not aligned to 16 bytes",
        [&] { LAUNCH(misaligned, 1, 32, 0, stream, x.data); });
    refused("ldmatrix of device memory", "not in the block's shared memory",
            [&] { LAUNCH(fragment_from_device, 1, 32, 0, stream, x.data); });
#ifdef WITH_ASAN
    const char *const beyond = "use-after-poison";
    refused("writes beyond device memory", "in beyond_device",
            [&] { LAUNCH(beyond_device, 1, 1, 0, stream, x.data, 64); });
#else
    const char *const beyond = "'beyond_shared', block (0,0,0): writes outside of its 128 bytes";
#endif
    refused(
        "writes beyond dynamic shared memory", beyond,
        [&] { LAUNCH(beyond_shared, 1, 32, 128, stream, 1); });
    refused(
        "an empty grid", "kernel 'nothing': a grid of 0 x 1 x 1",
        [&] { LAUNCH(nothing, 0, 64, 0, stream); });
    refused(
        "a grid too tall", "a grid of 1 x 65536 x 1",
        [&] { LAUNCH(nothing, dim3(1, 65536), 64, 0, stream); });
    refused(
        "a block too large", "a block of 1025 x 1 x 1",
        [&] { LAUNCH(nothing, 1, 1025, 0, stream); });
    refused(
        "too much shared memory", "232449 bytes of shared memory",
        [&] { LAUNCH(nothing, 1, 64, (227 << 10) + 1, stream); });
    tap_ok(refusal([&] { LAUNCH(nothing, 1, 1024, 227 << 10, stream); }).empty(),
           "as much as there may be is not refused");
    refused("a failing call", "CUDA: cudaMalloc: out of memory", [&] {
        void *p;
        cuda_check(cudaMalloc(&p, (size_t)1 << 50));
    });
}

int main()
{
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    test_half();
    test_blocks();
    test_warps();
    test_product<half_t>("half");
    test_product<bf16_t>("bfloat16");
    test_transposed();
    test_async();
    test_order();
    test_graph();
    test_refusals();
    cuda_check(cudaStreamDestroy(stream));
    return tap_done();
}
