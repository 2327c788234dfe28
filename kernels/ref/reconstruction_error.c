#include "kernels/ref/ref.h"
#include "kernels/training.h"

static double sign(double x)
{
    return (x > 0) - (x < 0);
}

static void judge_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct reconstruction_error_args *a = arg;
    int64_t count = tensor_count(a->x) / a->x->shape[0];
    double each = a->dy ? ref_f64(a->weight)[0] / (double)count : 0;
    for (int64_t image = begin; image < end; image++) {
        const float *x = ref_f32(a->x) + image * count, *y = ref_f32(a->y) + image * count;
        float *dy = a->dy ? ref_f32(a->dy) + image * count : NULL;
        double sum = 0;
        for (int64_t i = 0; i < count; i++) {
            double difference = (double)y[i] - x[i];
            sum += a->squared ? difference * difference : fabs(difference);
            if (dy)
                dy[i] = (float)(each * (a->squared ? 2 * difference : sign(difference)));
        }
        if (dy && count > 0 && !isfinite(sum))
            dy[0] = NAN; /* so that the update is rejected */
        ref_f64(a->loss)[image] = sum / (double)count;
    }
}

void ref_reconstruction_error(struct device *d, const struct reconstruction_error_args *a)
{
    parallel_for(a->x->shape[0], 1, judge_some, (void *)a);
}
