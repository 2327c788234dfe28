/* Part of isa_template.h: activations, softmax, the optimizer's step and other single passes. */

INLINE void activation_of(float *y, const float *x, int64_t n, const enum activation_kind act)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(y + i, activate(load(x + i), act));
    if (i < n) {
        vec v = activate(load_some(x + i, n - i), act);
        memcpy(y + i, &v, (size_t)(n - i) * 4);
    }
}

static void activation_all(float *y, const float *x, int64_t n, enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        activation_of(y, x, n, ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        activation_of(y, x, n, ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        activation_of(y, x, n, ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        activation_of(y, x, n, ACTIVATION_GELU);
        break;
    case ACTIVATION_LEAKY_RELU:
        activation_of(y, x, n, ACTIVATION_LEAKY_RELU);
        break;
    }
}

INLINE void activation_backward_of(float *dx, const float *x, const float *dy, int64_t n,
                                   const enum activation_kind act)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        store(dx + i, activate_backward(load(x + i), load(dy + i), act));
    if (i < n) {
        vec v = activate_backward(load_some(x + i, n - i), load_some(dy + i, n - i), act);
        memcpy(dx + i, &v, (size_t)(n - i) * 4);
    }
}

static void activation_backward_all(float *dx, const float *x, const float *dy, int64_t n,
                                    enum activation_kind act)
{
    switch (act) {
    case ACTIVATION_NONE:
        activation_backward_of(dx, x, dy, n, ACTIVATION_NONE);
        break;
    case ACTIVATION_RELU:
        activation_backward_of(dx, x, dy, n, ACTIVATION_RELU);
        break;
    case ACTIVATION_SILU:
        activation_backward_of(dx, x, dy, n, ACTIVATION_SILU);
        break;
    case ACTIVATION_GELU:
        activation_backward_of(dx, x, dy, n, ACTIVATION_GELU);
        break;
    case ACTIVATION_LEAKY_RELU:
        activation_backward_of(dx, x, dy, n, ACTIVATION_LEAKY_RELU);
        break;
    }
}

static void softmax(float *x, int64_t n, float scale)
{
    int64_t i = 0;
    float top = x[0];
    vec tops = splat(x[0]);
    for (; i + LANES <= n; i += LANES)
        tops = maximum(load(x + i), tops);
    for (int j = 0; j < LANES; j++)
        top = tops[j] > top ? tops[j] : top;
    for (; i < n; i++)
        top = x[i] > top ? x[i] : top;
    vec sums = splat(0), most = splat(top * scale);
    for (i = 0; i + LANES <= n; i += LANES) {
        vec e = exp_vec(load(x + i) * scale - most);
        store(x + i, e);
        sums += e;
    }
    float sum = sum_lanes(sums);
    for (; i < n; i++) {
        x[i] = expf(x[i] * scale - top * scale);
        sum += x[i];
    }
    float inverse = 1.0f / sum;
    for (i = 0; i < n; i++)
        x[i] *= inverse;
}

static void softmax_backward(float *dp, const float *p, int64_t n, float scale)
{
    vec sums = splat(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        sums += load(dp + i) * load(p + i);
    float sum = sum_lanes(sums);
    for (; i < n; i++)
        sum += dp[i] * p[i];
    for (i = 0; i < n; i++)
        dp[i] = p[i] * (dp[i] - sum) * scale;
}

/* Not inlined, so that all its callers round alike. */
static __attribute__((noinline)) void moving_average(const struct moving_average_args *a,
                                                     int64_t begin, int64_t end)
{
    const float decay = (float)a->decay, fresh = (float)(1 - a->decay);
    float *restrict average = a->average;
    const float *restrict x = a->x;
    for (int64_t i = begin; i < end; i++)
        average[i] = average[i] * decay + x[i] * fresh;
}

/* Where the gradient is the step itself. */
static void given_step(const struct adamw_args *a, int64_t begin, int64_t end)
{
    const float keep = (float)(1 - a->learning_rate * a->weight_decay);
    const float rate = (float)a->learning_rate;
    float *restrict p = a->parameter;
    const float *restrict g = a->gradient;
    for (int64_t i = begin; i < end; i++)
        p[i] = p[i] * keep - rate * g[i];
}

/* torch.optim.AdamW's order of operations. */
static void adamw_step(const struct adamw_args *a, int64_t begin, int64_t end)
{
    double correction1 = 1 - pow(a->beta1, (double)a->step);
    double correction2 = 1 - pow(a->beta2, (double)a->step);
    const float gradient_scale = (float)a->gradient_scale;
    const float keep = (float)(1 - a->learning_rate * a->weight_decay);
    const float beta1 = (float)a->beta1, rest1 = (float)(1 - a->beta1);
    const float beta2 = (float)a->beta2, rest2 = (float)(1 - a->beta2);
    const float step_size = (float)(a->learning_rate / correction1);
    const float root2 = (float)sqrt(correction2), epsilon = (float)a->epsilon;
    float *restrict p = a->parameter, *restrict m = a->m, *restrict v = a->v;
    const float *restrict g = a->gradient;
    for (int64_t i = begin; i < end; i++) {
        float gradient = g[i] * gradient_scale;
        float first = m[i] * beta1 + gradient * rest1;
        float second = v[i] * beta2 + gradient * gradient * rest2;
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * keep - step_size * (first / (__builtin_sqrtf(second) / root2 + epsilon));
    }
}

static void adamw(const struct adamw_args *a, int64_t begin, int64_t end)
{
    struct moving_average_args average = {a->count, a->ema, a->parameter, a->ema_decay_before};
    if (a->ema && a->ema_is_behind)
        moving_average(&average, begin, end);
    if (a->m)
        adamw_step(a, begin, end);
    else
        given_step(a, begin, end);
    average.decay = a->ema_decay;
    if (a->ema)
        moving_average(&average, begin, end);
}

static double sum_squares(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n, i = begin;
        vec s = splat(0);
        for (; i + LANES <= end; i += LANES)
            s += load(x + i) * load(x + i);
        float rest = 0;
        for (; i < end; i++)
            rest += x[i] * x[i];
        for (int j = 0; j < LANES; j++)
            sum += s[j];
        sum += rest;
    }
    return sum;
}

static void add_all(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void combine(float *y, int count, const float *const *x, const float *coefficients,
                    int64_t n)
{
    for (int64_t begin = 0; begin < n; begin += 1024) {
        int64_t end = begin + 1024 < n ? begin + 1024 : n;
        for (int64_t i = begin; i < end; i++)
            y[i] = coefficients[0] * x[0][i];
        for (int j = 1; j < count; j++)
            for (int64_t i = begin; i < end; i++)
                y[i] += coefficients[j] * x[j][i];
    }
}
