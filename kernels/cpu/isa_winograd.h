/* Part of isa_template.h: the transforms of Winograd's F(4x4, 3x3), forward and backward. */

/* The one-dimensional transforms of F(4, 3) at the points 0, 1, -1, 2, -2, infinity. */
INLINE void input_transform(vec y[6], const vec d[6])
{
    vec a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
    vec c = d[4] - d[2], e = 2.0f * (d[3] - d[1]);
    y[0] = 4.0f * d[0] - 5.0f * d[2] + d[4];
    y[1] = a + b;
    y[2] = a - b;
    y[3] = c + e;
    y[4] = c - e;
    y[5] = 4.0f * d[1] - 5.0f * d[3] + d[5];
}

INLINE void weight_transform(vec y[6], vec g0, vec g1, vec g2)
{
    vec a = (g0 + g2) * (-1.0f / 6), b = g1 * (1.0f / 6);
    vec c = g0 * (1.0f / 24) + g2 * (1.0f / 6), e = g1 * (1.0f / 12);
    y[0] = g0 * 0.25f;
    y[1] = a - b;
    y[2] = a + b;
    y[3] = c + e;
    y[4] = c - e;
    y[5] = g2;
}

INLINE void output_transform(vec y[4], const vec m[6])
{
    vec a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    y[0] = m[0] + a + c;
    y[1] = b + 2.0f * e;
    y[2] = a + 4.0f * c;
    y[3] = b + 8.0f * e + m[5];
}

/* `some` channels from c of a pixel of F32 or BF16. */
INLINE vec load_pixel(const enum dtype dtype, const void *pixel, int64_t c, const int64_t some)
{
    if (dtype == DTYPE_F32) {
        const float *from = (const float *)pixel + c;
        return some == LANES ? load(from) : load_some(from, some);
    }
    const uint16_t *from = (const uint16_t *)pixel + c;
    if (some == LANES)
        return load_shorts(from);
    uint16_t padded[LANES] = {0};
    memcpy(padded, from, (size_t)some * sizeof *from);
    return load_shorts(padded);
}

INLINE void input_of(const enum dtype dtype, float *dst, int64_t stride, const void *const *pixels,
                     int64_t c, const int64_t some)
{
    vec rows[6][6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        vec d[6];
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++)
            d[j] = load_pixel(dtype, pixels[i * 6 + j], c, some);
        input_transform(rows[i], d);
    }
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) {
        vec d[6], y[6];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            d[i] = rows[i][j];
        input_transform(y, d);
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            if (some == LANES)
                store(dst + (i * 6 + j) * stride + c, y[i]);
            else
                memcpy(dst + (i * 6 + j) * stride + c, &y[i], (size_t)some * 4);
    }
}

INLINE void inputs_of(const enum dtype dtype, float *dst, int64_t stride, const void *const *pixels,
                      int64_t channels)
{
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES)
        input_of(dtype, dst, stride, pixels, c, LANES);
    if (c < channels)
        input_of(dtype, dst, stride, pixels, c, channels - c);
}

static void winograd_input(float *dst, int64_t stride, enum dtype dtype, const void *const *pixels,
                           int64_t channels)
{
    if (dtype == DTYPE_F32)
        inputs_of(DTYPE_F32, dst, stride, pixels, channels);
    else
        inputs_of(DTYPE_BF16, dst, stride, pixels, channels);
}

static void winograd_weight(float *u, int64_t stride, int width, const float *g, int64_t channels)
{
    for (int64_t c = 0; c < channels; c++, g += 9 * LANES) {
        vec rows[3][6];
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            weight_transform(rows[i], load(g + (i * 3) * LANES), load(g + (i * 3 + 1) * LANES),
                             load(g + (i * 3 + 2) * LANES));
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) {
            vec y[6];
            weight_transform(y, rows[0][j], rows[1][j], rows[2][j]);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                store(u + (i * 6 + j) * stride + c * width, y[i]);
        }
    }
}

static void winograd_output(float *const *pixels, const float *m, int64_t stride, int64_t channels,
                            const float *bias)
{
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t some = channels - c < LANES ? channels - c : LANES;
        vec rows[6][4];
        vec start = !bias ? splat(0) : some == LANES ? load(bias + c) : load_some(bias + c, some);
        for (int i = 0; i < 6; i++) {
            vec d[6];
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++)
                d[j] = load(m + (i * 6 + j) * stride + c);
            output_transform(rows[i], d);
        }
        for (int j = 0; j < 4; j++) {
            vec d[6], y[4];
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                d[i] = rows[i][j];
            output_transform(y, d);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                float *pixel = pixels[i * 4 + j];
                vec v = y[i] + start;
                if (pixel && some == LANES)
                    store(pixel + c, v);
                else if (pixel)
                    memcpy(pixel + c, &v, (size_t)some * 4);
            }
        }
    }
}

/* Transposes of output_transform and weight_transform. */
INLINE void output_transform_backward(vec m[6], const vec y[4])
{
    vec even = y[0] + y[2], odd = y[1] + y[3];
    vec even2 = y[0] + 4.0f * y[2], odd2 = 2.0f * y[1] + 8.0f * y[3];
    m[0] = y[0];
    m[1] = even + odd;
    m[2] = even - odd;
    m[3] = even2 + odd2;
    m[4] = even2 - odd2;
    m[5] = y[3];
}

INLINE void weight_transform_backward(vec g[3], const vec u[6])
{
    vec a = (u[1] + u[2]) * (1.0f / 6), b = u[3] + u[4];
    g[0] = u[0] * 0.25f - a + b * (1.0f / 24);
    g[1] = (u[2] - u[1]) * (1.0f / 6) + (u[3] - u[4]) * (1.0f / 12);
    g[2] = b * (1.0f / 6) - a + u[5];
}

INLINE void output_backward_of(const enum dtype dtype, float *dst, int64_t stride,
                               const void *const *pixels, int64_t channels)
{
    for (int64_t c = 0; c < channels; c += LANES) {
        int64_t some = channels - c < LANES ? channels - c : LANES;
        vec rows[4][6];
        for (int i = 0; i < 4; i++) {
            vec y[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const void *pixel = pixels[i * 4 + j];
                y[j] = pixel ? load_pixel(dtype, pixel, c, some) : splat(0);
            }
            output_transform_backward(rows[i], y);
        }
        for (int j = 0; j < 6; j++) {
            vec y[4], m[6];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                y[i] = rows[i][j];
            output_transform_backward(m, y);
            for (int i = 0; i < 6; i++)
                if (some == LANES)
                    store(dst + (i * 6 + j) * stride + c, m[i]);
                else
                    memcpy(dst + (i * 6 + j) * stride + c, &m[i], (size_t)some * 4);
        }
    }
}

static void winograd_output_backward(float *dst, int64_t stride, enum dtype dtype,
                                     const void *const *pixels, int64_t channels)
{
    if (dtype == DTYPE_F32)
        output_backward_of(DTYPE_F32, dst, stride, pixels, channels);
    else
        output_backward_of(DTYPE_BF16, dst, stride, pixels, channels);
}

static void winograd_weight_backward(float *g, const float *u, int64_t stride)
{
    vec rows[6][3];
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) {
        vec d[6];
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++)
            d[j] = load(u + (i * 6 + j) * stride);
        weight_transform_backward(rows[i], d);
    }
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) {
        vec d[6], y[3];
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++)
            d[i] = rows[i][j];
        weight_transform_backward(y, d);
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++)
            store(g + (i * 3 + j) * LANES, y[i]);
    }
}
