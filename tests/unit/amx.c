/* The products of processors with AMX, with its instructions in C, against sums in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/dtype.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "kernels/cpu/isa.h"
#include "tests/support/tap.h"

#if defined(__x86_64__)

/* The tile registers, as configured; as Intel's manual describes the instructions. */
static struct {
    int rows, bytes;
    unsigned char data[16][64];
} tiles[8];
static int configured;

static void _tile_loadconfig(const void *from)
{
    const unsigned char *c = from;
    CHECK(c[0] == 1 && c[1] == 0);
    for (int i = 0; i < 8; i++) {
        tiles[i].bytes = c[16 + 2 * i] + 256 * c[17 + 2 * i];
        tiles[i].rows = c[48 + i];
        CHECK(tiles[i].rows <= 16 && tiles[i].bytes <= 64);
    }
    configured++;
}

static void _tile_loadd(int tile, const void *from, int64_t pitch)
{
    CHECK(tiles[tile].rows > 0);
    for (int i = 0; i < tiles[tile].rows; i++)
        memcpy(tiles[tile].data[i], (const char *)from + i * pitch, (size_t)tiles[tile].bytes);
}

static void _tile_stored(int tile, void *to, int64_t pitch)
{
    CHECK(tiles[tile].rows > 0);
    for (int i = 0; i < tiles[tile].rows; i++)
        memcpy((char *)to + i * pitch, tiles[tile].data[i], (size_t)tiles[tile].bytes);
}

static float element(const unsigned char *row, int i)
{
    float x;
    dtype_to_f32(&x, DTYPE_BF16, row + 2 * i, 1);
    return x;
}

static void _tile_dpbf16ps(int sum, int a, int b)
{
    CHECK(tiles[sum].rows == tiles[a].rows && tiles[a].bytes / 4 == tiles[b].rows &&
          tiles[sum].bytes == tiles[b].bytes);
    for (int m = 0; m < tiles[a].rows; m++)
        for (int k = 0; k < tiles[b].rows; k++)
            for (int n = 0; n < tiles[sum].bytes / 4; n++) {
                float c, *at = (float *)(void *)(tiles[sum].data[m] + 4 * n);
                memcpy(&c, at, sizeof c);
                for (int i = 0; i < 2; i++)
                    c +=
                        element(tiles[a].data[m], 2 * k + i) * element(tiles[b].data[k], 2 * n + i);
                memcpy(at, &c, sizeof c);
            }
}

#define AMX_EMULATED
#define cpu_amx_tile emulated_tile
void emulated_tile(int vectors, int taps, const uint16_t *const *a, int64_t k, const uint16_t *b,
                   float *c, int64_t ldc, const float *init);
#include "kernels/cpu/isa_amx.c"

#define MOST_TAPS 3
#define MOST_K    96

static uint16_t values[MOST_TAPS * ROWS * MOST_K + 7], weights[MOST_TAPS * MOST_K * 3 * LANES];

static void draw(uint16_t *to, size_t count, uint64_t sample)
{
    float *x = xmalloc(count * sizeof *x);
    rng_normal(x, count, 7, RNG_SHAPES, 0, sample, 0);
    dtype_from_f32(DTYPE_BF16, to, x, count);
    free(x);
}

static float float_of(uint16_t bits)
{
    float x;
    dtype_to_f32(&x, DTYPE_BF16, &bits, 1);
    return x;
}

/* The largest error of a tile's sums. apart: elements between rows; 0: they are in no order. */
static double worst_error(int vectors, int taps, int64_t k, int64_t apart, bool has_init)
{
    const uint16_t *a[MOST_TAPS * ROWS];
    float c[ROWS][3 * LANES], before[ROWS][3 * LANES], init[3 * LANES];
    int width = vectors * LANES;
    double worst = 0;
    for (int i = 0; i < taps * ROWS; i++)
        a[i] = values + (apart ? i / ROWS * 3 + i % ROWS * apart : i * 37 % 11 * MOST_K / 2);
    for (int i = 0; i < 3 * LANES; i++)
        init[i] = (float)i / 8;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 3 * LANES; j++)
            c[i][j] = before[i][j] = (float)(i - j) / 4;
    emulated_tile(vectors, taps, a, k, weights, c[0], 3 * LANES, has_init ? init : NULL);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 3 * LANES; j++) {
            double sum = j < width && has_init ? init[j] : before[i][j];
            for (int64_t m = 0; m < taps * k && j < width; m++)
                sum += (double)float_of(a[m / k * ROWS + i][m % k]) *
                       float_of(weights[(m / 2 * width + j) * 2 + m % 2]);
            worst = fmax(worst, fabs(c[i][j] - sum));
        }
    return worst;
}

int main(void)
{
    setenv("CCLD_CPU", "avx512-bf16", 1);
    bool rest = cpu_bf16() != NULL; /* AVX-512 adds what does not fill a tile */
    draw(values, sizeof values / sizeof *values, 1);
    draw(weights, sizeof weights / sizeof *weights, 2);
    for (int vectors = 1; vectors <= 3; vectors++)
        for (int taps = 1; taps <= MOST_TAPS; taps += 2)
            for (int64_t k = rest ? 2 : 32; k <= MOST_K; k += rest ? 30 : 32) {
                double worst = 0;
                for (int64_t apart = 0; apart <= MOST_K; apart += MOST_K / 2)
                    for (int init = 0; init < 2; init++)
                        worst = fmax(worst, worst_error(vectors, taps, k, apart, init));
                tap_ok(worst < 1e-4, "%d vectors, %d taps, %d channels: error %.2g", vectors, taps,
                       (int)k, worst);
            }
    tap_ok(configured == 1, "a thread configures its tiles once");
    return tap_done();
}
#else
int main(void)
{
    tap_skip("another kind of processor", "products of AMX");
    return tap_done();
}
#endif
