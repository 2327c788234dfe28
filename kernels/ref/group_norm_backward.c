#include "kernels/backward.h"
#include "kernels/ref/ref.h"

/* Sums over pixels, per image and channel, of the gradients of beta, gamma, shift and scale. */
struct channel_sums {
    double beta, gamma, shift, scale;
};

struct group_norm_backward_job {
    const struct group_norm_backward_args *a;
    struct channel_sums *sums; /* [n, c] */
};

/* One group. x, y, dy and dx point to channel 0 of the image's first pixel. */
struct group {
    const struct group_norm_args *f;
    const float *x, *y, *dy, *modulation;
    struct ref_moments moments;
    double inverse; /* of the standard deviation */
    bool adds;
};

/* Returns the gradient of one normalized element and adds to its channel's sums. */
static double element(const struct group *g, int64_t i, int64_t j, struct channel_sums *sums)
{
    const struct group_norm_args *f = g->f;
    double normal = (g->x[i] - g->moments.mean) * g->inverse;
    double gamma = f->gamma ? ref_f32(f->gamma)[j] : 1, beta = f->beta ? ref_f32(f->beta)[j] : 0;
    double scale = g->modulation ? 1 + (double)g->modulation[j] : 1;
    double shift = g->modulation ? g->modulation[tensor_last(f->x) + j] : 0;
    double affine = normal * gamma + beta;
    double dz = g->dy[i] * ref_activate_derivative(f->act, f->act == ACTIVATION_RELU
                                                               ? g->y[i]
                                                               : affine * scale + shift);
    sums->shift += dz;
    sums->scale += dz * affine;
    sums->beta += dz * scale;
    sums->gamma += dz * scale * normal;
    return dz * scale * gamma;
}

/* With u the normalized x: dx = (du - mean(du) - u * mean(du * u)) / deviation. */
static void group(const struct group *g, int64_t first, int64_t channels, int64_t pixels, float *dx,
                  struct channel_sums *sums)
{
    int64_t c = tensor_last(g->f->x);
    double count = (double)channels * (double)pixels, mean = 0, projection = 0;
    for (int64_t j = first; j < first + channels; j++)
        sums[j] = (struct channel_sums){0};
    for (int64_t p = 0; p < pixels; p++) {
        for (int64_t j = first; j < first + channels; j++) {
            int64_t i = p * c + j;
            double du = element(g, i, j, &sums[j]);
            mean += du / count;
            projection += du * (g->x[i] - g->moments.mean) * g->inverse / count;
        }
    }
    for (int64_t p = 0; p < pixels && dx; p++) {
        for (int64_t j = first; j < first + channels; j++) {
            int64_t i = p * c + j;
            double normal = (g->x[i] - g->moments.mean) * g->inverse;
            double du = element(g, i, j, &(struct channel_sums){0});
            double sum = (du - mean - normal * projection) * g->inverse;
            dx[i] = (float)((g->adds ? dx[i] : 0) + sum);
        }
    }
}

static void groups(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct group_norm_backward_job *job = arg;
    const struct group_norm_backward_args *a = job->a;
    const struct group_norm_args *f = &a->forward;
    int64_t n = f->x->shape[0], c = tensor_last(f->x);
    int64_t pixels = tensor_count(f->x) / (n * c), channels = c / f->groups;
    for (int64_t item = begin; item < end; item++) {
        int64_t image = item / f->groups, first = item % f->groups * channels;
        int64_t offset = image * pixels * c;
        struct group g = {
            .f = f, .x = ref_f32(f->x) + offset, .dy = ref_f32(a->dy) + offset, .adds = a->adds};
        if (f->act == ACTIVATION_RELU)
            g.y = ref_f32(f->y) + offset;
        if (f->modulation)
            g.modulation =
                ref_f32(f->modulation) + image * tensor_last(f->modulation) + f->modulation_begin;
        g.moments = ref_moments(g.x + first, pixels, c, channels);
        g.inverse = 1 / sqrt(g.moments.variance + f->eps);
        group(&g, first, channels, pixels, a->dx ? ref_f32(a->dx) + offset : NULL,
              job->sums + image * c);
    }
}

void ref_group_norm_backward(struct device *d, const struct group_norm_backward_args *a)
{
    int64_t n = a->forward.x->shape[0], c = tensor_last(a->forward.x);
    struct channel_sums *sums = xmalloc((size_t)(n * c) * sizeof *sums);
    struct group_norm_backward_job job = {a, sums};
    parallel_for(n * a->forward.groups, 1, groups, &job);
    if (a->fresh) {
        ref_clear(a->dgamma);
        ref_clear(a->dbeta);
    }
    for (int64_t j = 0; j < c; j++) {
        double gamma = 0, beta = 0;
        for (int64_t image = 0; image < n; image++) {
            const struct channel_sums *s = &sums[image * c + j];
            gamma += s->gamma;
            beta += s->beta;
            if (a->dmodulation) {
                float *row = ref_f32(a->dmodulation) + image * tensor_last(a->dmodulation) +
                             a->forward.modulation_begin;
                row[j] = (float)s->scale;
                row[c + j] = (float)s->shift;
            }
        }
        if (a->dgamma)
            ref_f32(a->dgamma)[j] = (float)(ref_f32(a->dgamma)[j] + gamma);
        if (a->dbeta)
            ref_f32(a->dbeta)[j] = (float)(ref_f32(a->dbeta)[j] + beta);
    }
    if (a->dx_sums && a->fresh_sums)
        ref_clear(a->dx_sums);
    if (a->dx_sums)
        ref_add_column_sums(ref_f32(a->dx_sums), ref_f32(a->dx), tensor_rows(a->dx), c);
    free(sums);
}
