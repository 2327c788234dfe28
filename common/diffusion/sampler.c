#include "common/diffusion/sampler.h"

#include <math.h>

#include "common/base/message.h"
#include "common/diffusion/schedule.h"
#include "kernels/ops.h"

const char *const sampler_method_names[] = {"ddpm",  "ddim",  "prk",   "plms", "pie",
                                            "plms2", "iplms", "dpm2m", NULL};

#define HISTORY_MAX 3

/* How a method in eps space makes a step: with a starter method (its value is the number of
 * evaluations) until `history` old predictions are known, then with a linear multistep rule. */
enum starter { STARTER_NONE, STARTER_PIE = 2, STARTER_PRK = 4 };
struct eps_method {
    enum starter starter;
    int history; /* predictions kept; -1: none, every step uses the starter */
};

static struct eps_method eps_method(enum sampler_method m)
{
    switch (m) {
    case SAMPLER_PRK:
        return (struct eps_method){STARTER_PRK, -1};
    case SAMPLER_PIE:
        return (struct eps_method){STARTER_PIE, -1};
    case SAMPLER_PLMS2:
        return (struct eps_method){STARTER_PIE, 1};
    case SAMPLER_IPLMS:
        return (struct eps_method){STARTER_NONE, 3};
    default:
        return (struct eps_method){STARTER_PRK, 3};
    }
}

static bool in_eps_space(enum sampler_method m)
{
    return m != SAMPLER_DDPM && m != SAMPLER_DDIM && m != SAMPLER_DPM2M;
}

int sampler_evaluations(const struct sampler_options *o)
{
    if (!in_eps_space(o->method))
        return o->count - o->reverse;
    struct eps_method m = eps_method(o->method);
    int steps = o->count - o->reverse;
    int started = m.history < 0 || steps < m.history ? steps : m.history;
    return m.starter == STARTER_NONE ? steps : (int)m.starter * started + steps - started;
}

struct run {
    struct tape *tape;
    const struct sampler_options *options;
    const struct sampler_model *model;
    int evaluations;
};

/* Returns NULL if progress asks to stop; the functions below pass that on. */
static struct tensor *predict_v(struct run *r, struct tensor *x, float time)
{
    struct tensor *v = r->model->predict_v(r->model->context, r->tape, x, time);
    const struct sampler_options *o = r->options;
    r->evaluations++;
    if (o->progress && !o->progress(o->progress_context, r->evaluations)) {
        tensor_release(v);
        return NULL;
    }
    return v;
}

static struct tensor *combine2(struct run *r, struct tensor *a, double ca, struct tensor *b,
                               double cb)
{
    return linear_combination(r->tape, 2, (struct tensor *[]){a, b},
                              (float[]){(float)ca, (float)cb});
}

/* Arithmetic in eps space rounds after each operation, in the reference's order. Predictions are
 * divided by alpha there, so near t = 1 their last digit affects the fifth digit of a sample with
 * few steps. Rounding alike makes even such samples agree with the reference to five digits. */
static struct tensor *product(struct run *r, double factor, struct tensor *x)
{
    return linear_combination(r->tape, 1, &x, (float[]){(float)factor});
}

/* Splits the reciprocal into two coefficients: one float would be off by up to half an ulp. */
static struct tensor *quotient(struct run *r, struct tensor *x, float divisor)
{
    double reciprocal = 1 / (double)divisor;
    return combine2(r, x, reciprocal - (float)reciprocal, x, reciprocal);
}

/* a x + b y */
static struct tensor *sum_of_products(struct run *r, double a, struct tensor *x, double b,
                                      struct tensor *y)
{
    struct tensor *ax = product(r, a, x), *by = product(r, b, y), *sum = combine2(r, ax, 1, by, 1);
    tensor_release(ax);
    tensor_release(by);
    return sum;
}

static struct tensor *predict_eps(struct run *r, struct tensor *x, float time)
{
    struct tensor *v = predict_v(r, x, time);
    if (!v)
        return NULL;
    struct alpha_sigma at = alpha_sigma_of_time(time);
    struct tensor *eps = sum_of_products(r, at.sigma, x, at.alpha, v);
    tensor_release(v);
    return eps;
}

/* The state at time `to` if eps were the noise in x at time `from`: with x_0 = (x - sigma eps) /
 * alpha, x' = alpha' x_0 + sigma' eps. */
static struct tensor *transfer(struct run *r, struct tensor *x, struct tensor *eps, float from,
                               float to)
{
    struct alpha_sigma a = alpha_sigma_of_time(from), b = alpha_sigma_of_time(to);
    struct tensor *noise = product(r, a.sigma, eps), *clean = combine2(r, x, 1, noise, -1);
    tensor_replace(&clean, quotient(r, clean, (float)a.alpha));
    struct tensor *next = sum_of_products(r, b.alpha, clean, b.sigma, eps);
    tensor_release(noise);
    tensor_release(clean);
    return next;
}

/* (eps[0] + 2 eps[1] + 2 eps[2] + eps[3]) / 6 */
static struct tensor *mean_prk(struct run *r, struct tensor *const *eps)
{
    struct tensor *sum = combine2(r, eps[0], 1, eps[1], 2);
    tensor_replace(&sum, combine2(r, sum, 1, eps[2], 2));
    tensor_replace(&sum, combine2(r, sum, 1, eps[3], 1));
    tensor_replace(&sum, quotient(r, sum, 6));
    return sum;
}

/* Pseudo Runge-Kutta: the mean prediction of four evaluations from `from` to `to`. */
static struct tensor *eps_prk(struct run *r, struct tensor *x, float from, float to)
{
    const float middle = (from + to) / 2, times[4] = {from, middle, middle, to};
    struct tensor *eps[4] = {0}, *mean = NULL;
    for (int i = 0; i < 4; i++) {
        struct tensor *at = i ? transfer(r, x, eps[i - 1], from, times[i]) : tensor_retain(x);
        eps[i] = predict_eps(r, at, times[i]);
        tensor_release(at);
        if (!eps[i])
            break;
    }
    if (eps[3])
        mean = mean_prk(r, eps);
    for (int i = 0; i < 4; i++)
        tensor_release(eps[i]);
    return mean;
}

/* Pseudo improved Euler: the mean of both ends. */
static struct tensor *eps_pie(struct run *r, struct tensor *x, float from, float to)
{
    struct tensor *begin = predict_eps(r, x, from), *end = NULL, *mean = NULL;
    if (begin) {
        struct tensor *at = transfer(r, x, begin, from, to);
        end = predict_eps(r, at, to);
        tensor_release(at);
    }
    if (end)
        mean = combine2(r, begin, 0.5, end, 0.5);
    tensor_release(begin);
    tensor_release(end);
    return mean;
}

/* Adams-Bashforth: old[0] is the prediction before this one. */
static struct tensor *multistep(struct run *r, struct tensor *eps, struct tensor *const *old,
                                int known)
{
    static const double rules[HISTORY_MAX + 1][HISTORY_MAX + 1] = {
        {1},
        {3 / 2., -1 / 2.},
        {23 / 12., -16 / 12., 5 / 12.},
        {55 / 24., -59 / 24., 37 / 24., -9 / 24.},
    };
    struct tensor *x[HISTORY_MAX + 1] = {eps};
    float coefficients[HISTORY_MAX + 1];
    for (int i = 0; i <= known; i++) {
        x[i] = i ? old[i - 1] : eps;
        coefficients[i] = (float)rules[known][i];
    }
    return linear_combination(r->tape, known + 1, x, coefficients);
}

/* One step of any method in eps space. old[0 .. *known) are updated. */
static struct tensor *eps_step(struct run *r, struct tensor *x, float from, float to,
                               struct tensor **old, int *known)
{
    struct eps_method m = eps_method(r->options->method);
    struct tensor *eps, *used;
    if (m.starter != STARTER_NONE && (m.history < 0 || *known < m.history)) {
        eps = m.starter == STARTER_PRK ? eps_prk(r, x, from, to) : eps_pie(r, x, from, to);
        used = eps ? tensor_retain(eps) : NULL;
    } else {
        eps = predict_eps(r, x, from);
        used = eps ? multistep(r, eps, old, *known) : NULL;
    }
    if (!eps)
        return NULL;
    struct tensor *next = transfer(r, x, used, from, to);
    tensor_release(used);
    if (m.history < 0) {
        tensor_release(eps);
        return next;
    }
    if (*known == m.history)
        tensor_release(old[--*known]);
    for (int i = (*known)++; i > 0; i--)
        old[i] = old[i - 1];
    old[0] = eps;
    return next;
}

static struct tensor *run_eps(struct run *r, struct tensor *start)
{
    const struct sampler_options *o = r->options;
    struct tensor *x = tensor_retain(start), *old[HISTORY_MAX];
    int known = 0;
    for (int i = 0; x && i < o->count - o->reverse; i++) {
        float to = i + 1 < o->count ? o->steps[i + 1] : 0;
        tensor_replace(&x, eps_step(r, x, o->steps[i], to, old, &known));
    }
    while (known)
        tensor_release(old[--known]);
    return x;
}

/* How much noise a DDIM step adds and how much of the predicted noise it keeps: s = eta (sigma' /
 * sigma) sqrt(1 - alpha^2 / alpha'^2) and sqrt(sigma'^2 - s^2) (eqs. 12 and 16 of the paper).
 * Single precision, as in the reference: small steps cancel most digits of these differences, and
 * the errors accumulate over many steps. */
static void split_noise(float *added, float *kept, struct alpha_sigma from, struct alpha_sigma to,
                        double eta)
{
    float a = (float)from.alpha, b = (float)to.alpha;
    float s = (float)from.sigma, z = (float)to.sigma;
    *added = (float)eta * sqrtf(z * z / (s * s)) * sqrtf(fmaxf(0, 1 - a * a / (b * b)));
    *kept = sqrtf(fmaxf(0, z * z - *added * *added));
}

/* DDIM from `from` to `to`, with v: x' = alpha' x_0 + kept eps + added noise. */
static struct tensor *ddim_step(struct run *r, struct tensor *x, struct tensor *v, float from,
                                float to, double eta, int call)
{
    struct alpha_sigma a = alpha_sigma_of_time(from), b = alpha_sigma_of_time(to);
    float added, kept;
    split_noise(&added, &kept, a, b, eta);
    struct tensor *parts[3] = {x, v};
    float coefficients[3] = {(float)(a.alpha * b.alpha + a.sigma * kept),
                             (float)(a.alpha * kept - a.sigma * b.alpha), added};
    if (eta > 0)
        parts[2] = r->options->noise(r->options->noise_context, r->tape, x, call);
    struct tensor *next = linear_combination(r->tape, eta > 0 ? 3 : 2, parts, coefficients);
    if (eta > 0)
        tensor_release(parts[2]);
    return next;
}

/* The x_0 that v predicts. */
static struct tensor *clean_image(struct run *r, struct tensor *x, struct tensor *v, float time)
{
    struct alpha_sigma a = alpha_sigma_of_time(time);
    return combine2(r, x, a.alpha, v, -a.sigma);
}

static struct tensor *run_ddim(struct run *r, struct tensor *start)
{
    const struct sampler_options *o = r->options;
    double eta = o->method == SAMPLER_DDPM ? 1 : o->eta;
    CHECK(eta >= 0 && (eta == 0 || o->noise));
    struct tensor *x = tensor_retain(start);
    for (int i = 0; x && i < o->count - o->reverse; i++) {
        struct tensor *v = predict_v(r, x, o->steps[i]), *next = NULL;
        if (v && i + 1 < o->count)
            next = ddim_step(r, x, v, o->steps[i], o->steps[i + 1], eta, i);
        else if (v)
            next = clean_image(r, x, v, o->steps[i]);
        tensor_release(v);
        tensor_replace(&x, next);
    }
    return x;
}

/* DPM-Solver++(2M), algorithm 2 of the paper, with lambda = log(alpha / sigma): from t to t',
 * h = lambda' - lambda, x' = (sigma' / sigma) x + (alpha' - sigma' alpha / sigma) d, where
 * d = d_1 + (d_1 - d_0) h / (2 h_before) from the predictions of x_0 at t and the time before it.
 * The step to t' = 0, where h is infinite, is of first order: it returns d_1. */
static struct tensor *run_dpm2m(struct run *r, struct tensor *start)
{
    const struct sampler_options *o = r->options;
    struct tensor *x = tensor_retain(start), *before = NULL;
    double lambda_before = 0;
    for (int i = 0; x && i < o->count; i++) {
        struct tensor *v = predict_v(r, x, o->steps[i]);
        struct tensor *data = v ? clean_image(r, x, v, o->steps[i]) : NULL;
        tensor_release(v);
        if (!data || i + 1 == o->count) {
            tensor_replace(&x, data);
            break;
        }
        struct alpha_sigma a = alpha_sigma_of_time(o->steps[i]);
        struct alpha_sigma b = alpha_sigma_of_time(o->steps[i + 1]);
        double lambda = log(a.alpha / a.sigma), h = log(b.alpha / b.sigma) - lambda;
        double extrapolated = before ? h / (2 * (lambda - lambda_before)) : 0;
        double factor = sin(angle_of_time(o->steps[i]) - angle_of_time(o->steps[i + 1])) / a.sigma;
        struct tensor *parts[3] = {x, data, before};
        float coefficients[3] = {(float)(b.sigma / a.sigma), (float)(factor * (1 + extrapolated)),
                                 (float)(-factor * extrapolated)};
        tensor_replace(&x, linear_combination(r->tape, before ? 3 : 2, parts, coefficients));
        tensor_replace(&before, data);
        lambda_before = lambda;
    }
    tensor_release(before);
    return x;
}

struct tensor *sampler_run(struct tape *t, const struct sampler_options *o,
                           const struct sampler_model *model, struct tensor *x)
{
    struct run r = {.tape = t, .options = o, .model = model};
    CHECK(o->count >= 1);
    if (in_eps_space(o->method))
        return run_eps(&r, x);
    CHECK(!o->reverse || (o->method == SAMPLER_DDIM && o->eta == 0));
    return o->method == SAMPLER_DPM2M ? run_dpm2m(&r, x) : run_ddim(&r, x);
}

struct tensor *sampler_add_noise(struct tape *t, struct tensor *image, struct tensor *noise,
                                 float time)
{
    struct alpha_sigma at = alpha_sigma_of_time(time);
    return linear_combination(t, 2, (struct tensor *[]){image, noise},
                              (float[]){(float)at.alpha, (float)at.sigma});
}
