#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/group_norm.h"

/* With t = (x - mean)*inverse, z = t*k + ... per channel (k: gamma and modulation), dz =
 * dy*act'(z), P = sum of dz, Q = sum of dz*t over an image's pixels, N elements a group: dx =
 * inverse * (k*dz - (sum of k*P)/N - t*(sum of k*Q)/N), sums over the group's channels. */
struct job {
    struct group_norm_plan plan;
    const struct group_norm_backward_args *a;
    double *sums;                   /* [n][chunks][2][c]: P, and Q with x - center in place of t */
    float *by_dz, *constant, *by_x; /* [n][c] */
    float *dx_sums;                 /* [n][chunks][c], if wanted */
    float *rows;                    /* [c] per worker, if dx is added to */
};

static void chunk_sums(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct group_norm_plan *p = &j->plan;
    for (int64_t i = begin; i < end; i++) {
        int64_t count, first = group_norm_chunk(p, i, &count), of = i / p->chunks * p->c;
        double *sums = j->sums + i * 2 * p->c;
        memset(sums, 0, (size_t)(2 * p->c) * sizeof *sums);
        for (int64_t done = 0, some; done < count; done += some) {
            some = group_norm_part(p, count - done);
            int64_t at = (first + done) * p->c, size = some * p->c;
            const float *x = row_read(p->a->x, at, size, group_norm_own(p, worker, 0));
            const float *dy = row_read(j->a->dy, at, size, group_norm_own(p, worker, 1));
            cpu_isa()->normalize_sums(x, dy, some, p->c, p->center + of, p->scale + of,
                                      p->shift + of, p->a->act, sums, sums + p->c);
        }
    }
}

/* Leaves P and Q of an image in the sums of its first chunk. */
static void image_coefficients(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct group_norm_plan *p = &j->plan;
    int64_t c = p->c, groups = p->a->groups, width = c / groups;
    for (int64_t n = begin; n < end; n++) {
        double *total = j->sums + n * p->chunks * 2 * c;
        for (int64_t k = 1; k < p->chunks; k++)
            for (int64_t i = 0; i < 2 * c; i++)
                total[i] += total[k * 2 * c + i];
        for (int64_t g = 0; g < groups; g++) {
            double inverse = p->inverse[n * groups + g], offset = p->offset[n * groups + g];
            double sum_p = 0, sum_q = 0, count = (double)(p->pixels * width);
            for (int64_t i = g * width; i < (g + 1) * width; i++) {
                total[c + i] = (total[c + i] + offset * total[i]) * inverse;
                sum_p += p->scale[n * c + i] * total[i];
                sum_q += p->scale[n * c + i] * total[c + i];
            }
            for (int64_t i = g * width; i < (g + 1) * width; i++) {
                double slope = sum_q / count * inverse;
                j->by_dz[n * c + i] = p->scale[n * c + i];
                j->by_x[n * c + i] = (float)slope;
                j->constant[n * c + i] = (float)(sum_p / count + slope * offset);
            }
        }
    }
}

static void gradient_chunks(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct group_norm_plan *p = &j->plan;
    const struct group_norm_backward_args *a = j->a;
    const struct cpu_isa *isa = cpu_isa();
    for (int64_t i = begin; i < end; i++) {
        int64_t count, first = group_norm_chunk(p, i, &count), of = i / p->chunks * p->c, c = p->c;
        float *sums = j->dx_sums ? j->dx_sums + i * c : NULL;
        if (sums)
            memset(sums, 0, (size_t)c * sizeof *sums);
        for (int64_t at = first * c; at < (first + count) * c; at += c) {
            const float *x = row_read(p->a->x, at, c, group_norm_own(p, worker, 0));
            const float *dy = row_read(a->dy, at, c, group_norm_own(p, worker, 1));
            float *buffer = group_norm_own(p, worker, 2);
            float *dx = a->adds ? j->rows + worker * c : row_begin(a->dx, at, buffer);
            isa->normalize_backward(dx, x, dy, p->center + of, p->scale + of, p->shift + of,
                                    j->by_dz + of, j->constant + of, j->by_x + of, c, p->a->act);
            if (sums)
                isa->add(sums, sums, dx, c);
            if (a->adds) {
                const float *before = row_read(a->dx, at, c, buffer);
                isa->add(row_begin(a->dx, at, buffer), before, dx, c);
                dx = buffer;
            }
            row_written(a->dx, at, c, dx);
        }
    }
}

static void add_dx_sums(const struct job *j)
{
    float *sums = j->a->dx_sums->data;
    for (int64_t c = 0; c < j->plan.c; c++) {
        double sum = 0;
        for (int64_t i = 0; i < j->plan.n * j->plan.chunks; i++)
            sum += j->dx_sums[i * j->plan.c + c];
        sums[c] = (j->a->fresh_sums ? 0 : sums[c]) + (float)sum;
    }
}

static void write_number(const struct tensor *t, int64_t at, float value)
{
    float buffer, *to = row_begin(t, at, &buffer);
    *to = value;
    row_written(t, at, 1, to);
}

/* scale is inverse*k here, so the parameters' gradients come from the same sums. */
static void parameter_gradients(const struct job *j)
{
    const struct group_norm_plan *p = &j->plan;
    const struct group_norm_args *f = p->a;
    int64_t c = p->c;
    const float *gamma = f->gamma ? f->gamma->data : NULL, *beta = f->beta ? f->beta->data : NULL;
    float *dgamma = j->a->dgamma ? j->a->dgamma->data : NULL;
    float *dbeta = j->a->dbeta ? j->a->dbeta->data : NULL;
    int64_t row = f->modulation ? tensor_last(f->modulation) : 0;
    for (int64_t i = 0; i < c; i++) {
        double sum_gamma = 0, sum_beta = 0;
        for (int64_t n = 0; n < p->n; n++) {
            const double *total = j->sums + n * p->chunks * 2 * c;
            int64_t at = n * row + f->modulation_begin + i;
            float by = 0;
            double factor = 1.0 + (f->modulation ? *row_read(f->modulation, at, 1, &by) : 0.0f);
            sum_gamma += factor * total[c + i];
            sum_beta += factor * total[i];
            if (j->a->dmodulation) {
                double by_scale =
                    gamma ? gamma[i] * total[c + i] + beta[i] * total[i] : total[c + i];
                write_number(j->a->dmodulation, at, (float)by_scale);
                write_number(j->a->dmodulation, at + c, (float)total[i]);
            }
        }
        if (dgamma)
            dgamma[i] = (j->a->fresh ? 0 : dgamma[i]) + (float)sum_gamma;
        if (dbeta)
            dbeta[i] = (j->a->fresh ? 0 : dbeta[i]) + (float)sum_beta;
    }
}

void cpu_group_norm_backward(struct device *d, const struct group_norm_backward_args *a)
{
    struct job j = {.a = a};
    group_norm_plan_init(&j.plan, d, &a->forward, a->forward.statistics);
    const struct group_norm_plan *p = &j.plan;
    if (!p->memory)
        return;
    size_t sums = (size_t)(p->n * p->chunks * 2 * p->c), each = (size_t)(p->n * p->c), granted;
    size_t rows = a->adds ? (size_t)(threads_count() * p->c) : 0;
    size_t dx_sums = a->dx_sums ? (size_t)(p->n * p->chunks * p->c) : 0;
    j.sums = device_allocate(d, sums * sizeof(double) + (3 * each + rows + dx_sums) * sizeof(float),
                             &granted);
    j.by_dz = (float *)(j.sums + sums);
    j.constant = j.by_dz + each;
    j.by_x = j.constant + each;
    j.rows = j.by_x + each;
    j.dx_sums = a->dx_sums ? j.rows + rows : NULL;
    parallel_for(p->n * p->chunks, 1, chunk_sums, &j);
    parallel_for(p->n, 1, image_coefficients, &j);
    if (a->dx)
        parallel_for(p->n * p->chunks, 1, gradient_chunks, &j);
    if (j.dx_sums)
        add_dx_sums(&j);
    parameter_gradients(&j);
    device_release(d, j.sums, granted);
    group_norm_plan_release(&j.plan, d);
}
