#include "kernels/ref/ref.h"

struct linear_job {
    const struct linear_args *a;
    const float *weight;
};

static void rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct linear_job *job = arg;
    const struct linear_args *a = job->a;
    const float *bias = a->bias ? ref_f32(a->bias) : NULL;
    int64_t inputs = tensor_last(a->x), outputs = tensor_last(a->y);
    for (int64_t row = begin; row < end; row++) {
        const float *in = ref_f32(a->x) + row * inputs;
        float *out = ref_f32(a->y) + row * outputs;
        for (int64_t o = 0; o < outputs; o++) {
            double sum = ref_dot(job->weight + o * inputs, in, inputs);
            sum = ref_activate(a->act, sum + (bias ? bias[o] : 0));
            if (a->residual)
                sum += ref_f32(a->residual)[row * outputs + o];
            out[o] = (float)sum;
        }
    }
}

void ref_linear(struct device *d, const struct linear_args *a)
{
    float *weight = ref_weights(a->weight);
    struct linear_job job = {a, weight};
    parallel_for(tensor_rows(a->x), 8, rows, &job);
    free(weight);
}
