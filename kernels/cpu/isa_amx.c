#if defined(__x86_64__)
#ifndef AMX_EMULATED
#include <immintrin.h>
#endif
#include <stddef.h>
#include <string.h>

#include "kernels/cpu/isa.h"

/* Products of BF16 in the tile registers of AMX, for as many channels as they take; AVX-512 adds
 * the others. Both take the same pairs of weights. tests/unit/amx.c runs this file with its
 * instructions emulated. */

#define ROWS     8
#define LANES    16
#define CHANNELS 32 /* of a row of `left`: 16 pairs */

/* Tile registers: 0 to 2 hold sums [ROWS][LANES], 4 to 6 a line of pairs each. */
#define LEFT 3

/* As _tile_loadconfig reads it. */
struct configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* GCC 12 does not know that the instructions read memory: what is stored before them must stay. */
static void finish_stores(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Of the calling thread, which keeps it. */
static void configure(void)
{
    static _Thread_local bool done;
    struct configuration c = {.palette = 1};
    if (done)
        return;
    for (int i = 0; i < 7; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = i <= LEFT ? ROWS : CHANNELS / 2;
    }
    finish_stores();
    _tile_loadconfig(&c);
    done = true;
}

/* The distance between rows that are equally far apart, in bytes; 0 if they are not. */
static ptrdiff_t distance(const uint16_t *const *row)
{
    ptrdiff_t first = (const char *)row[1] - (const char *)row[0];
    for (int i = 2; i < ROWS; i++)
        if ((const char *)row[i] - (const char *)row[i - 1] != first)
            return 0;
    return first;
}

static void load_left(const uint16_t *const *row, int64_t channel, ptrdiff_t apart)
{
    if (apart) {
        _tile_loadd(LEFT, row[0] + channel, apart);
        return;
    }
    uint16_t lines[ROWS][CHANNELS];
    for (int i = 0; i < ROWS; i++)
        memcpy(lines[i], row[i] + channel, sizeof lines[i]);
    finish_stores();
    _tile_loadd(LEFT, lines, sizeof lines[0]);
}

static void multiply(int vectors, const uint16_t *const *row, int64_t channels, const uint16_t *b)
{
    const int pairs = 2 * LANES, pitch = vectors * pairs * (int)sizeof *b;
    ptrdiff_t apart = distance(row);
    finish_stores();
    for (int64_t m = 0; m < channels; m += CHANNELS, b += CHANNELS * vectors * LANES) {
        load_left(row, m, apart);
        _tile_loadd(4, b, pitch);
        _tile_dpbf16ps(0, LEFT, 4);
        if (vectors > 1) {
            _tile_loadd(5, b + pairs, pitch);
            _tile_dpbf16ps(1, LEFT, 5);
        }
        if (vectors > 2) {
            _tile_loadd(6, b + 2 * pairs, pitch);
            _tile_dpbf16ps(2, LEFT, 6);
        }
    }
}

static void load_sums(int vectors, const float *c, int64_t ldc)
{
    const int64_t pitch = ldc * (int64_t)sizeof *c;
    finish_stores();
    _tile_loadd(0, c, pitch);
    if (vectors > 1)
        _tile_loadd(1, c + LANES, pitch);
    if (vectors > 2)
        _tile_loadd(2, c + 2 * LANES, pitch);
}

static void store_sums(int vectors, float *c, int64_t ldc)
{
    const int64_t pitch = ldc * (int64_t)sizeof *c;
    _tile_stored(0, c, pitch);
    if (vectors > 1)
        _tile_stored(1, c + LANES, pitch);
    if (vectors > 2)
        _tile_stored(2, c + 2 * LANES, pitch);
    finish_stores();
}

void cpu_amx_tile(int vectors, int taps, const uint16_t *const *a, int64_t k, const uint16_t *b,
                  float *c, int64_t ldc, const float *init)
{
    const int64_t whole = k / CHANNELS * CHANNELS, width = (int64_t)vectors * LANES;
    if (whole == 0) {
        cpu_bf16_avx512.tile(vectors, taps, a, k, b, c, ldc, init);
        return;
    }
    for (int i = 0; i < ROWS && init; i++)
        memcpy(c + i * ldc, init, (size_t)width * sizeof *c);
    configure();
    load_sums(vectors, c, ldc);
    for (int tap = 0; tap < taps; tap++)
        multiply(vectors, a + tap * ROWS, whole, b + tap * k * width);
    store_sums(vectors, c, ldc);
    for (int tap = 0; tap < taps && whole < k; tap++) {
        const uint16_t *rest[ROWS];
        for (int i = 0; i < ROWS; i++)
            rest[i] = a[tap * ROWS + i] + whole;
        cpu_bf16_avx512.tile(vectors, 1, rest, k - whole, b + (tap * k + whole) * width, c, ldc,
                             NULL);
    }
}
#endif
typedef int translation_unit_not_empty;
