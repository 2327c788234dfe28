#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/images/prepare.h"

#if defined(__x86_64__) && !defined(PREPARE_PLAIN)
#include <immintrin.h>
#define HAVE_AVX2_CODE 1
#endif

/* Pillow's 8-bit resampling; its Resample.c is the source of every rounding here. The weights of
 * the antialiased Lanczos window are computed in double, normalized and rounded to 22-bit fixed
 * point; sums are int32, rounded and clipped to 8 bits after each of the two passes. Only the rows
 * and columns that the window needs are computed.
 *
 * A signed 22-bit weight does not fit the 16-bit multiply-add that vector units are fastest at.
 * Split as weight = high * 2048 + low it takes two of them, and the sum is the same bit for bit. */
enum { WEIGHT_BITS = 32 - 8 - 2, LOW_BITS = 11, TAP_BLOCK = 16, SUPPORT = 3 };

/* Output i of the window is the weighted sum of taps[i] inputs from first[i] on. The weights are
 * padded with zeros to a multiple of TAP_BLOCK. */
struct filter {
    int count, stride;
    int begin, end; /* range of inputs that the outputs use */
    int *first, *taps;
    int32_t *weights;    /* [count, stride] */
    int16_t *high, *low; /* [count, stride] */
};

static double lanczos(double x)
{
    if (x < -SUPPORT || x >= SUPPORT)
        return 0;
    if (x == 0)
        return 1;
    double a = x * M_PI, b = x / SUPPORT * M_PI;
    return sin(a) / a * (sin(b) / b);
}

static void filter_release(struct filter *f)
{
    free(f->first);
    free(f->taps);
    free(f->weights);
    free(f->high);
    free(f->low);
}

/* Computes the weights of output i and returns their number. */
static int weigh(int32_t *weights, double *w, int *first, int in_size, double scale, int i)
{
    double filter_scale = scale < 1 ? 1 : scale, support = SUPPORT * filter_scale;
    double center = (i + 0.5) * scale, step = 1 / filter_scale, sum = 0;
    int begin = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
    begin = begin < 0 ? 0 : begin;
    end = end > in_size ? in_size : end;
    for (int x = begin; x < end; x++) {
        w[x - begin] = lanczos((x - center + 0.5) * step);
        sum += w[x - begin];
    }
    for (int x = 0; x < end - begin; x++) {
        double v = sum != 0 ? w[x] / sum : w[x];
        weights[x] = (int32_t)(v * (1 << WEIGHT_BITS) + (v < 0 ? -0.5 : 0.5));
    }
    *first = begin;
    return end - begin;
}

static int filter_init(struct filter *f, int in_size, int out_size, int begin, int count,
                       struct error *e)
{
    double scale = (double)in_size / out_size;
    size_t longest = 2 * (size_t)ceil(SUPPORT * (scale < 1 ? 1 : scale)) + 1;
    size_t stride = (longest + TAP_BLOCK - 1) / TAP_BLOCK * TAP_BLOCK, n = (size_t)count;
    *f = (struct filter){.count = count, .stride = (int)stride, .begin = in_size};
    f->first = malloc(n * sizeof *f->first);
    f->taps = malloc(n * sizeof *f->taps);
    f->weights = calloc(n * stride, sizeof *f->weights);
    f->high = malloc(n * stride * sizeof *f->high);
    f->low = malloc(n * stride * sizeof *f->low);
    double *w = malloc(stride * sizeof *w);
    if (!f->first || !f->taps || !f->weights || !f->high || !f->low || !w) {
        free(w);
        filter_release(f);
        return error_set(e, "not enough memory to resize");
    }
    for (int i = 0; i < count; i++) {
        f->taps[i] =
            weigh(f->weights + (size_t)i * stride, w, &f->first[i], in_size, scale, begin + i);
        if (f->first[i] < f->begin)
            f->begin = f->first[i];
        if (f->first[i] + f->taps[i] > f->end)
            f->end = f->first[i] + f->taps[i];
    }
    for (size_t i = 0; i < n * stride; i++) {
        f->high[i] = (int16_t)(f->weights[i] >> LOW_BITS);
        f->low[i] = (int16_t)(f->weights[i] & ((1 << LOW_BITS) - 1));
    }
    free(w);
    return 0;
}

static uint8_t round_sum(int32_t sum)
{
    sum = (sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS;
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

/* One row of `channels` interleaved bytes. */
static void horizontal(uint8_t *out, const uint8_t *row, int channels, const struct filter *f)
{
    for (int i = 0; i < f->count; i++) {
        const int32_t *w = f->weights + (size_t)i * (size_t)f->stride;
        const uint8_t *in = row + (size_t)f->first[i] * (size_t)channels;
        for (int c = 0; c < channels; c++) {
            int32_t sum = 0;
            for (int t = 0; t < f->taps[i]; t++)
                sum += w[t] * in[t * channels + c];
            *out++ = round_sum(sum);
        }
    }
}

/* Bytes begin to end of one output row; the input rows are `stride` bytes apart. */
static void vertical(uint8_t *out, const uint8_t *rows, size_t stride, size_t begin, size_t end,
                     const int32_t *w, int taps)
{
    for (size_t x = begin; x < end; x++) {
        int32_t sum = 0;
        for (int t = 0; t < taps; t++)
            sum += w[t] * rows[(size_t)t * stride + x];
        out[x] = round_sum(sum);
    }
}

#ifdef HAVE_AVX2_CODE
#define AVX2 __attribute__((target("avx2")))

/* Processes blocks of 32 bytes; returns how many bytes it has written. */
AVX2 static size_t vertical_avx2(uint8_t *out, const uint8_t *rows, size_t stride, size_t bytes,
                                 const int32_t *w, int taps)
{
    const __m256i half = _mm256_set1_epi32(1 << (WEIGHT_BITS - 1));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    size_t x = 0;
    for (; x + 32 <= bytes; x += 32) {
        __m256i sum[4] = {half, half, half, half};
        for (int t = 0; t < taps; t++) {
            const uint8_t *in = rows + (size_t)t * stride + x;
            __m256i weight = _mm256_set1_epi32(w[t]);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)(in + 8 * j));
                __m256i product = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(v), weight);
                sum[j] = _mm256_add_epi32(sum[j], product);
            }
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            sum[j] = _mm256_srai_epi32(sum[j], WEIGHT_BITS);
        __m256i low = _mm256_packs_epi32(sum[0], sum[1]);
        __m256i high = _mm256_packs_epi32(sum[2], sum[3]);
        __m256i v = _mm256_packus_epi16(low, high); /* packs each half separately */
        v = _mm256_permutevar8x32_epi32(v, order);
        _mm256_storeu_si256((__m256i *)(void *)(out + x), v);
    }
    return x;
}

/* Rounds four sums and packs them into the low bytes. */
AVX2 static __m128i round_sums(__m128i high, __m128i low)
{
    __m128i sum = _mm_add_epi32(_mm_slli_epi32(high, LOW_BITS), low);
    sum = _mm_add_epi32(sum, _mm_set1_epi32(1 << (WEIGHT_BITS - 1)));
    sum = _mm_srai_epi32(sum, WEIGHT_BITS);
    sum = _mm_packs_epi32(sum, sum);
    return _mm_packus_epi16(sum, sum);
}

/* Processes four pixels per iteration: bytes 0 to 5 are spread to the pairs (r0,r1) (g0,g1) (b0,b1)
 * of the lower half, bytes 6 to 11 to those of the upper half, and multiplied by (w0,w1) and
 * (w2,w3). Reads up to 16 pixels past the last tap, from the next row or the padding; their weights
 * are zero. */
AVX2 static void horizontal_rgb_avx2(uint8_t *out, const uint8_t *row, const struct filter *f)
{
    const __m256i spread =
        _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7,
                         -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const __m256i pairs = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    for (int i = 0; i < f->count; i++) {
        const int16_t *high = f->high + (size_t)i * (size_t)f->stride;
        const int16_t *low = f->low + (size_t)i * (size_t)f->stride;
        const uint8_t *in = row + (size_t)f->first[i] * 3;
        __m256i sum_high = _mm256_setzero_si256(), sum_low = _mm256_setzero_si256();
        for (int t = 0; t < f->taps[i]; t += 4) {
            __m256i v = _mm256_broadcastsi128_si256(
                _mm_loadu_si128((const __m128i *)(const void *)(in + 3 * t)));
            v = _mm256_shuffle_epi8(v, spread);
            __m256i h =
                _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)(high + t)));
            __m256i l =
                _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)(low + t)));
            h = _mm256_permutevar8x32_epi32(h, pairs);
            l = _mm256_permutevar8x32_epi32(l, pairs);
            sum_high = _mm256_add_epi32(sum_high, _mm256_madd_epi16(v, h));
            sum_low = _mm256_add_epi32(sum_low, _mm256_madd_epi16(v, l));
        }
        __m128i h =
            _mm_add_epi32(_mm256_castsi256_si128(sum_high), _mm256_extracti128_si256(sum_high, 1));
        __m128i l =
            _mm_add_epi32(_mm256_castsi256_si128(sum_low), _mm256_extracti128_si256(sum_low, 1));
        uint32_t rgb = (uint32_t)_mm_cvtsi128_si32(round_sums(h, l));
        memcpy(out + 3 * (size_t)i, &rgb, 3);
    }
}

AVX2 static int32_t sum_lanes(__m256i v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

AVX2 static void horizontal_gray_avx2(uint8_t *out, const uint8_t *row, const struct filter *f)
{
    for (int i = 0; i < f->count; i++) {
        const int16_t *high = f->high + (size_t)i * (size_t)f->stride;
        const int16_t *low = f->low + (size_t)i * (size_t)f->stride;
        const uint8_t *in = row + f->first[i];
        __m256i sum_high = _mm256_setzero_si256(), sum_low = _mm256_setzero_si256();
        for (int t = 0; t < f->taps[i]; t += 16) {
            __m256i v =
                _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(in + t)));
            __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)(high + t));
            __m256i l = _mm256_loadu_si256((const __m256i *)(const void *)(low + t));
            sum_high = _mm256_add_epi32(sum_high, _mm256_madd_epi16(v, h));
            sum_low = _mm256_add_epi32(sum_low, _mm256_madd_epi16(v, l));
        }
        uint32_t sum = ((uint32_t)sum_lanes(sum_high) << LOW_BITS) + (uint32_t)sum_lanes(sum_low);
        out[i] = round_sum((int32_t)sum);
    }
}

static bool have_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
#endif

static void horizontal_pass(uint8_t *out, size_t stride, const struct image *in, int top, int rows,
                            const struct filter *f)
{
    size_t in_stride = (size_t)in->width * (size_t)in->channels;
    for (int y = 0; y < rows; y++) {
        const uint8_t *row = in->pixels + (size_t)(top + y) * in_stride;
        uint8_t *to = out + (size_t)y * stride;
#ifdef HAVE_AVX2_CODE
        if (have_avx2()) {
            if (in->channels == 3)
                horizontal_rgb_avx2(to, row, f);
            else
                horizontal_gray_avx2(to, row, f);
            continue;
        }
#endif
        horizontal(to, row, in->channels, f);
    }
}

static void vertical_pass(uint8_t *out, size_t out_stride, const uint8_t *rows, size_t stride,
                          size_t bytes, const struct filter *f)
{
    for (int y = 0; y < f->count; y++) {
        const int32_t *w = f->weights + (size_t)y * (size_t)f->stride;
        const uint8_t *from = rows + (size_t)(f->first[y] - f->begin) * stride;
        uint8_t *to = out + (size_t)y * out_stride;
        size_t done = 0;
#ifdef HAVE_AVX2_CODE
        if (have_avx2())
            done = vertical_avx2(to, from, stride, bytes, w, f->taps[y]);
#endif
        vertical(to, from, stride, done, bytes, w, f->taps[y]);
    }
}

/* Clips the window of `size` from `begin` on to [0, limit). */
static void clip_window(int *begin, int *count, int *skipped, int size, int limit)
{
    int end = *begin + size < limit ? *begin + size : limit;
    *skipped = *begin < 0 ? -*begin : 0;
    *begin = *begin < 0 ? 0 : *begin;
    *count = end > *begin ? end - *begin : 0;
}

int prepare_resize(struct image *out, const struct image *in, int resized_width, int resized_height,
                   int left, int top, int width, int height, struct error *e)
{
    struct filter fx, fy;
    int columns, rows, skip_x, skip_y, status = -1;
    if (image_new(out, width, height, in->channels, 8, e) != 0)
        return -1;
    clip_window(&left, &columns, &skip_x, width, resized_width);
    clip_window(&top, &rows, &skip_y, height, resized_height);
    if (columns == 0 || rows == 0)
        return 0;
    if (filter_init(&fx, in->width, resized_width, left, columns, e) != 0)
        goto no_fx;
    if (filter_init(&fy, in->height, resized_height, top, rows, e) != 0)
        goto no_fy;
    size_t channels = (size_t)in->channels, stride = (size_t)columns * channels;
    size_t between = (size_t)(fy.end - fy.begin);
    uint8_t *half = malloc(between * stride);
    if (!half) {
        error_set(e, "not enough memory to resize");
        goto no_half;
    }
    horizontal_pass(half, stride, in, fy.begin, (int)between, &fx);
    size_t out_stride = (size_t)width * channels;
    uint8_t *to = out->pixels + (size_t)skip_y * out_stride + (size_t)skip_x * channels;
    vertical_pass(to, out_stride, half, stride, stride, &fy);
    free(half);
    status = 0;
no_half:
    filter_release(&fy);
no_fy:
    filter_release(&fx);
no_fx:
    if (status != 0)
        image_release(out);
    return status;
}
