#include <math.h>

#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"

/* Sums over channels run in lanes, which the compiler vectorizes. */
#define LANES 16
#define CHUNK 64 /* pixels */

static float sum_of(const float *lanes)
{
    float sum = 0;
    for (int j = 0; j < LANES; j++)
        sum += lanes[j];
    return sum;
}

static float length_of(const float *x, int64_t c)
{
    float lanes[LANES] = {0}, rest = 0;
    int64_t i = 0;
    for (; i + LANES <= c; i += LANES)
        for (int j = 0; j < LANES; j++)
            lanes[j] += x[i + j] * x[i + j];
    for (; i < c; i++)
        rest += x[i] * x[i];
    return sqrtf(sum_of(lanes) + rest);
}

/* Sum of weight * (a * of_a - b * of_b)^2. */
static float distance_of(const float *a, const float *b, const float *weight, float of_a,
                         float of_b, int64_t c)
{
    float lanes[LANES] = {0}, rest = 0;
    int64_t i = 0;
    for (; i + LANES <= c; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float apart = a[i + j] * of_a - b[i + j] * of_b;
            lanes[j] += weight[i + j] * apart * apart;
        }
    for (; i < c; i++)
        rest += weight[i] * (a[i] * of_a - b[i] * of_b) * (a[i] * of_a - b[i] * of_b);
    return sum_of(lanes) + rest;
}

struct job {
    const struct feature_distance_args *f;
    int64_t pixels, chunks; /* of an image */
    double *partial;        /* [n, chunks] */
};

static void measure_chunks(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct job *job = arg;
    const struct feature_distance_args *f = job->f;
    int64_t c = f->a->shape[3];
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t first = chunk % job->chunks * CHUNK, image = chunk / job->chunks;
        int64_t last = first + CHUNK < job->pixels ? first + CHUNK : job->pixels;
        double sum = 0;
        for (int64_t p = image * job->pixels + first; p < image * job->pixels + last; p++) {
            const float *a = (const float *)f->a->data + p * c;
            const float *b = (const float *)f->b->data + p * c;
            sum += (double)distance_of(a, b, f->weight->data, 1 / (length_of(a, c) + f->eps),
                                       1 / (length_of(b, c) + f->eps), c);
        }
        job->partial[chunk] = sum;
    }
}

void cpu_feature_distance(struct device *d, const struct feature_distance_args *a)
{
    int64_t n = a->a->shape[0];
    struct job job = {.f = a, .pixels = a->a->shape[1] * a->a->shape[2]};
    job.chunks = (job.pixels + CHUNK - 1) / CHUNK;
    size_t granted;
    job.partial = device_allocate(d, (size_t)(n * job.chunks) * sizeof(double), &granted);
    parallel_for(n * job.chunks, 1, measure_chunks, &job);
    for (int64_t image = 0; image < n; image++) {
        double sum = 0;
        for (int64_t i = 0; i < job.chunks; i++)
            sum += job.partial[image * job.chunks + i];
        ((float *)a->y->data)[image] = (float)(sum / (double)job.pixels);
    }
    device_release(d, job.partial, granted);
}

/* e = factor * weight * (b * of_b - a * of_a); returns e . b */
static float pull_of(float *e, const float *a, const float *b, const float *weight, float of_a,
                     float of_b, float factor, int64_t c)
{
    float lanes[LANES] = {0}, rest = 0;
    int64_t i = 0;
    for (; i + LANES <= c; i += LANES)
        for (int j = 0; j < LANES; j++) {
            float pull = factor * weight[i + j] * (b[i + j] * of_b - a[i + j] * of_a);
            lanes[j] += pull * b[i + j];
            e[i + j] = pull;
        }
    for (; i < c; i++) {
        e[i] = factor * weight[i] * (b[i] * of_b - a[i] * of_a);
        rest += e[i] * b[i];
    }
    return sum_of(lanes) + rest;
}

/* The formula is in ref's file of the same name. */
static void pull_pixels(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct feature_distance_backward_args *args = arg;
    const struct feature_distance_args *f = &args->forward;
    int64_t c = f->a->shape[3], pixels = f->a->shape[1] * f->a->shape[2];
    for (int64_t p = begin; p < end; p++) {
        const float *a = (const float *)f->a->data + p * c, *b = (const float *)f->b->data + p * c;
        float *db = (float *)args->db->data + p * c, length = length_of(b, c);
        float of_a = 1 / (length_of(a, c) + f->eps), of_b = 1 / (length + f->eps);
        float factor = 2 * ((const float *)args->dy->data)[p / pixels] / (float)pixels;
        float along = pull_of(db, a, b, f->weight->data, of_a, of_b, factor, c);
        float back = length > 0 ? of_b * along / length : 0, scale = length > 0 ? of_b : 0;
        for (int64_t i = 0; i < c; i++)
            db[i] = scale * (db[i] - back * b[i]);
    }
}

void cpu_feature_distance_backward(struct device *d, const struct feature_distance_backward_args *a)
{
    const struct tensor *b = a->forward.b;
    parallel_for(b->shape[0] * b->shape[1] * b->shape[2], CHUNK, pull_pixels, (void *)a);
}
