/* Part of isa_template.h: sums and normalization of group and layer norm, forward and backward. */

static void moments(const float *x, int64_t n, float center, double *sum, double *sum_squares)
{
    double s = 0, q = 0;
    /* Blocks are short, so that float partial sums keep their digits. */
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n, i = begin;
        vec s0 = splat(0), s1 = splat(0), q0 = splat(0), q1 = splat(0), mid = splat(center);
        for (; i + 2 * LANES <= end; i += 2 * LANES) {
            vec a = load(x + i) - mid, b = load(x + i + LANES) - mid;
            s0 += a;
            s1 += b;
            q0 += a * a;
            q1 += b * b;
        }
        s0 += s1;
        q0 += q1;
        for (int j = 0; j < LANES; j++) {
            s += s0[j];
            q += q0[j];
        }
        for (; i < end; i++) {
            double d = (double)x[i] - center;
            s += d;
            q += d * d;
        }
    }
    *sum = s;
    *sum_squares = q;
}

/* Sums of x - mid and of its square over pixels that are c floats apart, one vector of channels. */
INLINE void block_sums(const float *x, int64_t pixels, int64_t c, int64_t some, vec mid, vec *sum,
                       vec *squares)
{
    vec s = splat(0), q = splat(0);
    if (some == LANES)
        for (int64_t p = 0; p < pixels; p++) {
            vec difference = load(x + p * c) - mid;
            s += difference;
            q += difference * difference;
        }
    else
        for (int64_t p = 0; p < pixels; p++) {
            vec difference = load_some(x + p * c, some) - mid;
            s += difference;
            q += difference * difference;
        }
    *sum = s;
    *squares = q;
}

/* Blocks of pixels are summed twice, first relative to one of their pixels, then relative to their
 * mean: float sums keep their digits whatever the offset, even if only few pixels stand out. */
static void channel_moments(const float *x, int64_t pixels, int64_t c, const float *center,
                            double *sum, double *sum_squares)
{
    for (int64_t begin = 0; begin < pixels; begin += 128) {
        int64_t n = begin + 128 < pixels ? 128 : pixels - begin;
        for (int64_t i = 0; i < c; i += LANES) {
            int64_t some = c - i < LANES ? c - i : LANES;
            const float *block = x + begin * c + i;
            vec s, q, first = some == LANES ? load(block) : load_some(block, some);
            block_sums(block, n, c, some, first, &s, &q);
            vec mean = first + s * (1.0f / (float)n);
            block_sums(block, n, c, some, mean, &s, &q);
            for (int64_t j = 0; j < some; j++) {
                double apart = (double)mean[j] - center[i + j];
                sum[i + j] += s[j] + (double)n * apart;
                sum_squares[i + j] += q[j] + apart * (2 * (double)s[j] + (double)n * apart);
            }
        }
    }
}

INLINE void normalize_of(float *y, const float *x, const float *center, const float *scale,
                         const float *shift, int64_t n, const enum activation_kind act)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i,
              activate((load(x + i) - load(center + i)) * load(scale + i) + load(shift + i), act));
    if (i < n) {
        int64_t some = n - i;
        vec difference = load_some(x + i, some) - load_some(center + i, some);
        vec v = activate(difference * load_some(scale + i, some) + load_some(shift + i, some), act);
        memcpy(y + i, &v, (size_t)some * 4);
    }
}

static void normalize(float *y, const float *x, const float *center, const float *scale,
                      const float *shift, int64_t n, enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_GELU);
        break;
    case ACTIVATION_LEAKY_RELU:
        normalize_of(y, x, center, scale, shift, n, ACTIVATION_LEAKY_RELU);
        break;
    }
}

/* act'(z) * dy */
INLINE vec activate_backward(vec z, vec dy, const enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_RELU:
        return choose(z <= 0, splat(0), dy);
    case ACTIVATION_SILU: {
        vec s = 1.0f / (1.0f + exp_vec(-z));
        return dy * (s + z * s * (1.0f - s));
    }
    case ACTIVATION_GELU: {
        vec cdf = 0.5f * (1.0f + erf_vec(z * 0.70710678118654752f));
        return dy * (cdf + z * exp_vec(-0.5f * z * z) * 0.39894228040143268f);
    }
    case ACTIVATION_LEAKY_RELU:
        return choose(z <= 0, dy * LEAKY_RELU_SLOPE, dy);
    default:
        return dy;
    }
}

INLINE void normalize_sums_of(const float *x, const float *dy, int64_t pixels, int64_t c,
                              const float *center, const float *scale, const float *shift,
                              const enum activation_kind act, double *p, double *q)
{
    for (int64_t begin = 0; begin < pixels; begin += 256) {
        int64_t end = begin + 256 < pixels ? begin + 256 : pixels;
        for (int64_t i = 0; i < c; i += LANES) {
            int64_t some = c - i < LANES ? c - i : LANES;
            vec mid = load_some(center + i, some), factor = load_some(scale + i, some);
            vec offset = load_some(shift + i, some), sp = splat(0), sq = splat(0);
            for (int64_t n = begin; n < end; n++) {
                int64_t at = n * c + i;
                bool whole = some == LANES;
                vec difference = (whole ? load(x + at) : load_some(x + at, some)) - mid;
                vec dz = whole ? load(dy + at) : load_some(dy + at, some);
                dz = activate_backward(difference * factor + offset, dz, act);
                sp += dz;
                sq += dz * difference;
            }
            for (int64_t j = 0; j < some; j++) {
                p[i + j] += sp[j];
                q[i + j] += sq[j];
            }
        }
    }
}

static void normalize_sums(const float *x, const float *dy, int64_t pixels, int64_t c,
                           const float *center, const float *scale, const float *shift,
                           enum activation_kind act, double *p, double *q)
{
    switch (act) {
    case ACTIVATION_NONE:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_NONE, p, q);
        break;
    case ACTIVATION_RELU:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_RELU, p, q);
        break;
    case ACTIVATION_SILU:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_SILU, p, q);
        break;
    case ACTIVATION_GELU:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_GELU, p, q);
        break;
    case ACTIVATION_LEAKY_RELU:
        normalize_sums_of(x, dy, pixels, c, center, scale, shift, ACTIVATION_LEAKY_RELU, p, q);
        break;
    }
}

INLINE void normalize_backward_of(float *dx, const float *x, const float *dy, const float *center,
                                  const float *scale, const float *shift, const float *by_dz,
                                  const float *constant, const float *by_x, int64_t n,
                                  const enum activation_kind act)
{
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t some = n - i < LANES ? n - i : LANES;
        if (some == LANES) {
            vec difference = load(x + i) - load(center + i);
            vec dz = activate_backward(difference * load(scale + i) + load(shift + i), load(dy + i),
                                       act);
            store(dx + i, dz * load(by_dz + i) - load(constant + i) - difference * load(by_x + i));
        } else {
            vec difference = load_some(x + i, some) - load_some(center + i, some);
            vec z = difference * load_some(scale + i, some) + load_some(shift + i, some);
            vec dz = activate_backward(z, load_some(dy + i, some), act);
            vec v = dz * load_some(by_dz + i, some) - load_some(constant + i, some) -
                    difference * load_some(by_x + i, some);
            memcpy(dx + i, &v, (size_t)some * 4);
        }
    }
}

static void normalize_backward(float *dx, const float *x, const float *dy, const float *center,
                               const float *scale, const float *shift, const float *by_dz,
                               const float *constant, const float *by_x, int64_t n,
                               enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_GELU);
        break;
    case ACTIVATION_LEAKY_RELU:
        normalize_backward_of(dx, x, dy, center, scale, shift, by_dz, constant, by_x, n,
                              ACTIVATION_LEAKY_RELU);
        break;
    }
}

static void normalize_row(float *y, const float *x, float center, float scale, float shift,
                          const float *gamma, const float *beta, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = ((x[i] - center) * scale + shift) * gamma[i] + beta[i];
}

static void row_gradient_sums(const float *x, const float *dy, const float *gamma, int64_t n,
                              float center, float shift, float inverse, double *restrict by_gamma,
                              double *restrict by_beta, double *sum_g, double *sum_gt)
{
    double s = 0, q = 0;
    int64_t i = 0;
    /* Blocks as in moments(). */
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n;
        vec gs = splat(0), gts = splat(0);
        for (i = begin; i + LANES <= end; i += LANES) {
            vec t = (load(x + i) - center - shift) * inverse, by = load(dy + i);
            vec g = load(gamma + i) * by;
            gs += g;
            gts += g * t;
        }
        for (int j = 0; j < LANES; j++) {
            s += gs[j];
            q += gts[j];
        }
        for (; i < end; i++) {
            float t = (x[i] - center - shift) * inverse, g = gamma[i] * dy[i];
            s += g;
            q += g * t;
        }
    }
    for (i = 0; i < n; i++) {
        by_gamma[i] += dy[i] * ((x[i] - center - shift) * inverse);
        by_beta[i] += dy[i];
    }
    *sum_g = s;
    *sum_gt = q;
}

static void row_gradient(float *restrict dx, const float *x, const float *dy, const float *gamma,
                         int64_t n, float center, float shift, float inverse, float mean_g,
                         float mean_gt)
{
    for (int64_t i = 0; i < n; i++) {
        float t = (x[i] - center - shift) * inverse;
        dx[i] = inverse * (gamma[i] * dy[i] - mean_g - t * mean_gt);
    }
}
