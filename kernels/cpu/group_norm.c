#include "kernels/cpu/group_norm.h"

#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

#define CHUNK_ELEMENTS 65536

/* Sums are taken relative to the image's first pixel, so that a large common offset costs no
 * digits. */
static void chunk_sums(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct group_norm_plan *p = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t count, first = group_norm_chunk(p, i, &count);
        double *sums = p->sums + i * 2 * p->c;
        memset(sums, 0, (size_t)(2 * p->c) * sizeof *sums);
        for (int64_t done = 0, some; done < count; done += some) {
            some = group_norm_part(p, count - done);
            const float *x =
                row_read(p->a->x, (first + done) * p->c, some * p->c, group_norm_own(p, worker, 0));
            cpu_isa()->channel_moments(x, some, p->c, p->first + i / p->chunks * p->first_step,
                                       sums, sums + p->c);
        }
    }
}

/* Merges the channels of a group (Chan, Golub and LeVeque's parallel variance). */
static void group_statistics(const struct group_norm_plan *p, int64_t n, int64_t g,
                             const double *total)
{
    const struct group_norm_args *a = p->a;
    int64_t c = p->c, width = c / a->groups, begin = g * width, end = begin + width;
    const float *first = p->first + n * p->first_step;
    double mean = 0, squares = 0, count = (double)p->pixels;
    for (int64_t i = begin; i < end; i++)
        mean += first[i] + total[i] / count;
    mean /= (double)width;
    for (int64_t i = begin; i < end; i++) {
        double shift = total[i] / count, difference = first[i] + shift - mean;
        squares += total[c + i] - shift * total[i] + count * difference * difference;
    }
    double variance = squares / (count * (double)width);
    if (variance < 0) /* by rounding; NaN stays NaN */
        variance = 0;
    int64_t at = n * a->groups + g;
    float center = (float)mean;
    p->inverse[at] = 1.0 / sqrt(variance + a->eps);
    p->offset[at] = center - mean;
    p->center[n * c + begin] = center;
    if (a->statistics) {
        float *kept = (float *)a->statistics->data + 3 * at;
        kept[0] = center;
        kept[1] = (float)-p->offset[at];
        kept[2] = (float)p->inverse[at];
    }
}

static void recall_statistics(const struct group_norm_plan *p, int64_t n, int64_t g)
{
    int64_t at = n * p->a->groups + g;
    const float *kept = (const float *)p->a->statistics->data + 3 * at;
    p->center[n * p->c + g * (p->c / p->a->groups)] = kept[0];
    p->offset[at] = -kept[1];
    p->inverse[at] = kept[2];
}

/* From the group's statistics, and its first channel's center. */
static void group_coefficients(const struct group_norm_plan *p, int64_t n, int64_t g)
{
    const struct group_norm_args *a = p->a;
    int64_t c = p->c, width = c / a->groups, begin = g * width, end = begin + width;
    const float *gamma = a->gamma ? a->gamma->data : NULL, *beta = a->beta ? a->beta->data : NULL;
    double inverse = p->inverse[n * a->groups + g], offset = p->offset[n * a->groups + g];
    float center = p->center[n * c + begin];
    for (int64_t i = begin; i < end; i++) {
        double scale = inverse, shift = offset * inverse;
        if (gamma) {
            scale *= gamma[i];
            shift = shift * gamma[i] + beta[i];
        }
        if (a->modulation) {
            int64_t at = n * tensor_last(a->modulation) + a->modulation_begin + i;
            float by, plus;
            double factor = 1.0 + *row_read(a->modulation, at, 1, &by);
            scale *= factor;
            shift = shift * factor + *row_read(a->modulation, at + c, 1, &plus);
        }
        p->center[n * c + i] = center;
        p->scale[n * c + i] = (float)scale;
        p->shift[n * c + i] = (float)shift;
    }
}

static void image_coefficients(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct group_norm_plan *p = arg;
    for (int64_t n = begin; n < end; n++) {
        double *total = p->sums + n * p->chunks * 2 * p->c;
        for (int64_t k = 1; k < p->chunks && !p->known; k++)
            for (int64_t i = 0; i < 2 * p->c; i++)
                total[i] += total[k * 2 * p->c + i];
        for (int64_t g = 0; g < p->a->groups; g++) {
            if (p->known)
                recall_statistics(p, n, g);
            else
                group_statistics(p, n, g, total);
            group_coefficients(p, n, g);
        }
    }
}

static void find_first_pixels(struct group_norm_plan *p, float *copies)
{
    bool copied = p->a->x->dtype != DTYPE_F32;
    p->first = copied ? copies : p->a->x->data;
    p->first_step = copied ? p->c : p->pixels * p->c;
    for (int64_t n = 0; copied && n < p->n; n++)
        row_read(p->a->x, n * p->pixels * p->c, p->c, copies + n * p->c);
}

void group_norm_plan_init(struct group_norm_plan *p, struct device *d,
                          const struct group_norm_args *a, bool known)
{
    *p = (struct group_norm_plan){.a = a,
                                  .n = a->x->shape[0],
                                  .pixels = a->x->shape[1] * a->x->shape[2],
                                  .c = a->x->shape[3]};
    if (p->n * p->pixels * p->c == 0)
        return;
    p->chunk_pixels = (CHUNK_ELEMENTS + p->c - 1) / p->c;
    p->chunks = (p->pixels + p->chunk_pixels - 1) / p->chunk_pixels;
    size_t sums = (size_t)(p->n * p->chunks * 2 * p->c), each = (size_t)(p->n * p->c);
    size_t groups = (size_t)(p->n * a->groups);
    size_t buffers = (size_t)(GROUP_NORM_BUFFERS * threads_count() * group_norm_buffer(a));
    p->memory = device_allocate(
        d, (sums + 2 * groups) * sizeof(double) + (4 * each + buffers) * sizeof(float),
        &p->granted);
    p->sums = p->memory;
    p->inverse = p->sums + sums;
    p->offset = p->inverse + groups;
    p->center = (float *)(p->offset + groups);
    p->scale = p->center + each;
    p->shift = p->scale + each;
    p->buffers = p->shift + each;
    find_first_pixels(p, p->buffers + buffers);
    p->known = known;
    if (!known)
        parallel_for(p->n * p->chunks, 1, chunk_sums, p);
    parallel_for(p->n, 1, image_coefficients, p);
}

void group_norm_plan_release(struct group_norm_plan *p, struct device *d)
{
    if (p->memory)
        device_release(d, p->memory, p->granted);
}

static void normalize_chunks(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct group_norm_plan *p = arg;
    const struct cpu_isa *isa = cpu_isa();
    for (int64_t i = begin; i < end; i++) {
        int64_t count, first = group_norm_chunk(p, i, &count), of = i / p->chunks * p->c;
        for (int64_t pixel = first; pixel < first + count; pixel++) {
            int64_t at = pixel * p->c;
            const float *x = row_read(p->a->x, at, p->c, group_norm_own(p, worker, 0));
            float *y = row_begin(p->a->y, at, group_norm_own(p, worker, 1));
            isa->normalize(y, x, p->center + of, p->scale + of, p->shift + of, p->c, p->a->act);
            if (p->a->residual)
                isa->add(y, y, row_read(p->a->residual, at, p->c, group_norm_own(p, worker, 2)),
                         p->c);
            row_written(p->a->y, at, p->c, y);
        }
    }
}

void cpu_group_norm(struct device *d, const struct group_norm_args *a)
{
    struct group_norm_plan p;
    group_norm_plan_init(&p, d, a, false);
    parallel_for(p.n * p.chunks, 1, normalize_chunks, &p);
    group_norm_plan_release(&p, d);
}
