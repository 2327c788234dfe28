#include "kernels/ref/ref.h"
#include "kernels/training.h"

void ref_moving_average(struct device *d, const struct moving_average_args *a)
{
    float decay = (float)a->decay, fresh = (float)(1 - a->decay);
    for (int64_t i = 0; i < a->count; i++)
        a->average[i] = a->average[i] * decay + a->x[i] * fresh;
}

static void average(struct device *d, const struct adamw_args *a, double decay)
{
    ref_moving_average(d, &(struct moving_average_args){a->count, a->ema, a->parameter, decay});
}

/* In float and in torch's order of operations, so that ten steps end where torch's do. */
void ref_adamw(struct device *d, const struct adamw_args *a)
{
    double bias1 = 1 - pow(a->beta1, (double)a->step), bias2 = 1 - pow(a->beta2, (double)a->step);
    float keep = (float)(1 - a->learning_rate * a->weight_decay);
    float step_size = (float)(a->learning_rate / bias1), root_bias2 = (float)sqrt(bias2);
    float scale = (float)a->gradient_scale, epsilon = (float)a->epsilon;
    float rate1 = (float)(1 - a->beta1), beta2 = (float)a->beta2, rate2 = (float)(1 - a->beta2);
    if (a->ema && a->ema_is_behind)
        average(d, a, a->ema_decay_before);
    for (int64_t i = 0; i < a->count; i++) {
        if (!a->m) {
            a->parameter[i] = a->parameter[i] * keep - (float)a->learning_rate * a->gradient[i];
            continue;
        }
        float g = a->gradient[i] * scale, p = a->parameter[i] * keep;
        float m = a->m[i] + rate1 * (g - a->m[i]);
        float v = a->v[i] * beta2 + rate2 * g * g;
        p -= step_size * m / (sqrtf(v) / root_bias2 + epsilon);
        a->m[i] = m;
        a->v[i] = v;
        a->parameter[i] = p;
    }
    if (a->ema)
        average(d, a, a->ema_decay);
}
