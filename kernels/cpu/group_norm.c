#include <math.h>
#include <string.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

#define CHUNK_ELEMENTS 65536

struct job {
    const struct group_norm_args *a;
    int64_t pixels, c, chunk_pixels, chunks; /* of one image */
    double *sums;                            /* [n][chunks][2][c]: differences, their squares */
    float *center, *scale, *shift;           /* [n][c] */
};

/* Sums are taken about the image's first pixel, so that a large common offset costs no digits. */
static void chunk_sums(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const float *image = (const float *)j->a->x->data + i / j->chunks * j->pixels * j->c;
        int64_t first = i % j->chunks * j->chunk_pixels;
        int64_t count = j->pixels - first < j->chunk_pixels ? j->pixels - first : j->chunk_pixels;
        double *sums = j->sums + i * 2 * j->c;
        memset(sums, 0, (size_t)(2 * j->c) * sizeof *sums);
        cpu_isa()->channel_moments(image + first * j->c, count, j->c, image, sums, sums + j->c);
    }
}

/* Joins the channels of each group (Chan, Golub and LeVeque's parallel variance) and prepares one
 * multiplication and addition per element. */
static void image_coefficients(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct group_norm_args *a = j->a;
    int64_t c = j->c, width = c / a->groups;
    const float *gamma = a->gamma ? a->gamma->data : NULL, *beta = a->beta ? a->beta->data : NULL;
    for (int64_t n = begin; n < end; n++) {
        const float *first = (const float *)a->x->data + n * j->pixels * c;
        double *total = j->sums + n * j->chunks * 2 * c;
        for (int64_t k = 1; k < j->chunks; k++)
            for (int64_t i = 0; i < 2 * c; i++)
                total[i] += total[k * 2 * c + i];
        const float *modulation =
            a->modulation ? (const float *)a->modulation->data + n * 2 * c : NULL;
        for (int64_t g = 0; g < a->groups; g++) {
            double mean = 0, squares = 0, count = (double)j->pixels;
            for (int64_t i = g * width; i < (g + 1) * width; i++)
                mean += first[i] + total[i] / count;
            mean /= (double)width;
            for (int64_t i = g * width; i < (g + 1) * width; i++) {
                double shift = total[i] / count, difference = first[i] + shift - mean;
                squares += total[c + i] - shift * total[i] + count * difference * difference;
            }
            double variance = squares / (count * (double)width);
            double inverse = 1.0 / sqrt((variance > 0 ? variance : 0) + a->eps);
            if (isnan(variance))
                inverse = NAN;
            float center = (float)mean;
            for (int64_t i = g * width; i < (g + 1) * width; i++) {
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
                j->center[n * c + i] = center;
                j->scale[n * c + i] = (float)scale;
                j->shift[n * c + i] = (float)shift;
            }
        }
    }
}

static void normalize_chunks(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *j = arg;
    const struct cpu_isa *isa = cpu_isa();
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / j->chunks, first = i % j->chunks * j->chunk_pixels;
        int64_t last = first + j->chunk_pixels < j->pixels ? first + j->chunk_pixels : j->pixels;
        for (int64_t p = first; p < last; p++) {
            int64_t at = (n * j->pixels + p) * j->c;
            isa->normalize((float *)j->a->y->data + at, (const float *)j->a->x->data + at,
                           j->center + n * j->c, j->scale + n * j->c, j->shift + n * j->c, j->c,
                           j->a->act);
        }
    }
}

void cpu_group_norm(struct device *d, const struct group_norm_args *a)
{
    int64_t n = a->x->shape[0];
    struct job j = {.a = a, .pixels = a->x->shape[1] * a->x->shape[2], .c = a->x->shape[3]};
    if (n * j.pixels * j.c == 0)
        return;
    j.chunk_pixels = (CHUNK_ELEMENTS + j.c - 1) / j.c;
    j.chunks = (j.pixels + j.chunk_pixels - 1) / j.chunk_pixels;
    size_t granted, sums = (size_t)(n * j.chunks * 2 * j.c), each = (size_t)(n * j.c);
    j.sums = device_allocate(d, sums * sizeof(double) + 3 * each * sizeof(float), &granted);
    j.center = (float *)(j.sums + sums);
    j.scale = j.center + each;
    j.shift = j.scale + each;
    parallel_for(n * j.chunks, 1, chunk_sums, &j);
    parallel_for(n, 1, image_coefficients, &j);
    parallel_for(n * j.chunks, 1, normalize_chunks, &j);
    device_release(d, j.sums, granted);
}
