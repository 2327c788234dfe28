/* Part of isa_template.h: products of few rows with weights that are read once, as they lie. */

/* LANES weights of F32 or BF16. */
INLINE vec load_weights(const enum dtype dtype, const char *w)
{
    if (dtype == DTYPE_F32)
        return load((const float *)w);
    return load_shorts((const uint16_t *)w);
}

/* The next four rows of weights are prefetched. */
INLINE void dot_block(const enum dtype dtype, const int rows, const int columns, float *y,
                      int64_t ldy, const float *x, int64_t ldx, const char *w, int64_t ldw,
                      int64_t k, const float *bias)
{
    const int64_t size = dtype == DTYPE_F32 ? 4 : 2;
    vec sum[4][4];
#pragma GCC unroll 4
    for (int m = 0; m < rows; m++)
#pragma GCC unroll 4
        for (int o = 0; o < columns; o++)
            sum[m][o] = splat(0);
    int64_t i = 0;
    for (; i + LANES <= k; i += LANES) {
        vec right[4];
#pragma GCC unroll 4
        for (int o = 0; o < columns; o++) {
            const char *at = w + (o * ldw + i) * size;
            right[o] = load_weights(dtype, at);
            __builtin_prefetch(at + 4 * ldw * size);
        }
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++) {
            vec left = load(x + m * ldx + i);
#pragma GCC unroll 4
            for (int o = 0; o < columns; o++)
                sum[m][o] += left * right[o];
        }
    }
    for (int m = 0; m < rows; m++)
        for (int o = 0; o < columns; o++) {
            float s = sum_lanes(sum[m][o]);
            const char *row = w + o * ldw * size;
            float rest[LANES];
            if (dtype != DTYPE_F32)
                dtype_to_f32(rest, dtype, row + i * size, (size_t)(k - i));
            const float *last = dtype == DTYPE_F32 ? (const float *)row + i : rest;
            for (int64_t j = i; j < k; j++)
                s += x[m * ldx + j] * last[j - i];
            y[m * ldy + o] = s + (bias ? bias[o] : 0);
        }
}

INLINE void dot_of(const enum dtype dtype, float *y, int64_t ldy, const float *x, int64_t ldx,
                   int rows, const char *w, int64_t ldw, int columns, int64_t k, const float *bias)
{
    const int64_t size = dtype == DTYPE_F32 ? 4 : 2;
    for (int o = 0; o < columns; o += 4, w += 4 * ldw * size) {
        const float *b = bias ? bias + o : NULL;
        int few = columns - o < 4 ? columns - o : 4;
        for (int m = 0; m < rows;) {
            const float *xm = x + m * ldx;
            float *ym = y + m * ldy + o;
            if (few == 4 && rows - m >= 4) {
                dot_block(dtype, 4, 4, ym, ldy, xm, ldx, w, ldw, k, b);
                m += 4;
            } else if (few == 4) {
                dot_block(dtype, 1, 4, ym, ldy, xm, ldx, w, ldw, k, b);
                m++;
            } else {
                for (int i = 0; i < few; i++)
                    dot_block(dtype, 1, 1, ym + i, ldy, xm, ldx, w + i * ldw * size, ldw, k,
                              b ? b + i : NULL);
                m++;
            }
        }
    }
}

static void dot(float *y, int64_t ldy, const float *x, int64_t ldx, int rows, enum dtype dtype,
                const void *w, int64_t ldw, int columns, int64_t k, const float *bias)
{
    if (dtype == DTYPE_F32)
        dot_of(DTYPE_F32, y, ldy, x, ldx, rows, w, ldw, columns, k, bias);
    else
        dot_of(DTYPE_BF16, y, ldy, x, ldx, rows, w, ldw, columns, k, bias);
}
