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
        const float *x = p->a->x->data, *image = x + i / p->chunks * p->pixels * p->c;
        double *sums = p->sums + i * 2 * p->c;
        memset(sums, 0, (size_t)(2 * p->c) * sizeof *sums);
        cpu_isa()->channel_moments(x + first * p->c, count, p->c, image, sums, sums + p->c);
    }
}

/* Merges the channels of a group (Chan, Golub and LeVeque's parallel variance). */
static void group_coefficients(const struct group_norm_plan *p, int64_t n, int64_t g,
                               const double *total)
{
    const struct group_norm_args *a = p->a;
    int64_t c = p->c, width = c / a->groups, begin = g * width, end = begin + width;
    const float *first = (const float *)a->x->data + n * p->pixels * c;
    const float *gamma = a->gamma ? a->gamma->data : NULL, *beta = a->beta ? a->beta->data : NULL;
    const float *modulation = NULL;
    if (a->modulation)
        modulation = (const float *)a->modulation->data + n * tensor_last(a->modulation) +
                     a->modulation_begin;
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
    double inverse = 1.0 / sqrt(variance + a->eps);
    float center = (float)mean;
    p->inverse[n * a->groups + g] = inverse;
    p->offset[n * a->groups + g] = center - mean;
    for (int64_t i = begin; i < end; i++) {
        double scale = inverse, shift = (center - mean) * inverse;
        if (gamma) {
            scale *= gamma[i];
            shift = shift * gamma[i] + beta[i];
        }
        if (modulation) {
            double factor = 1.0 + modulation[i];
            scale *= factor;
            shift = shift * factor + modulation[c + i];
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
        for (int64_t k = 1; k < p->chunks; k++)
            for (int64_t i = 0; i < 2 * p->c; i++)
                total[i] += total[k * 2 * p->c + i];
        for (int64_t g = 0; g < p->a->groups; g++)
            group_coefficients(p, n, g, total);
    }
}

void group_norm_plan_init(struct group_norm_plan *p, struct device *d,
                          const struct group_norm_args *a)
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
    p->memory = device_allocate(d, (sums + 2 * groups) * sizeof(double) + 3 * each * sizeof(float),
                                &p->granted);
    p->sums = p->memory;
    p->inverse = p->sums + sums;
    p->offset = p->inverse + groups;
    p->center = (float *)(p->offset + groups);
    p->scale = p->center + each;
    p->shift = p->scale + each;
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
        for (int64_t pixel = first; pixel < first + count; pixel++)
            isa->normalize((float *)p->a->y->data + pixel * p->c,
                           (const float *)p->a->x->data + pixel * p->c, p->center + of,
                           p->scale + of, p->shift + of, p->c, p->a->act);
    }
}

void cpu_group_norm(struct device *d, const struct group_norm_args *a)
{
    struct group_norm_plan p;
    group_norm_plan_init(&p, d, a);
    parallel_for(p.n * p.chunks, 1, normalize_chunks, &p);
    group_norm_plan_release(&p, d);
}
