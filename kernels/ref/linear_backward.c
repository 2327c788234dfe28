#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_add_column_sums(float *sums, const float *x, int64_t rows, int64_t columns)
{
    for (int64_t j = 0; j < columns; j++) {
        double sum = sums[j];
        for (int64_t row = 0; row < rows; row++)
            sum += x[row * columns + j];
        sums[j] = (float)sum;
    }
}

struct linear_backward_job {
    const struct linear_backward_args *a;
    const float *dz; /* [rows, outputs]: the gradient before the activation */
    int64_t rows, inputs, outputs;
};

static void input_gradients(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct linear_backward_job *job = arg;
    const float *weight = ref_f32(job->a->forward.weight);
    double *sums = xmalloc((size_t)job->inputs * sizeof(double));
    for (int64_t row = begin; row < end; row++) {
        for (int64_t i = 0; i < job->inputs; i++)
            sums[i] = 0;
        for (int64_t o = 0; o < job->outputs; o++)
            for (int64_t i = 0; i < job->inputs; i++)
                sums[i] += (double)job->dz[row * job->outputs + o] * weight[o * job->inputs + i];
        for (int64_t i = 0; i < job->inputs; i++)
            ref_set(job->a->dx, row * job->inputs + i, job->a->adds, sums[i]);
    }
    free(sums);
}

static void weight_gradients(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct linear_backward_job *job = arg;
    const float *x = ref_f32(job->a->forward.x);
    double *sums = xmalloc((size_t)job->inputs * sizeof(double));
    for (int64_t o = begin; o < end; o++) {
        float *dweight = ref_f32(job->a->dweight) + o * job->inputs;
        for (int64_t i = 0; i < job->inputs; i++)
            sums[i] = 0;
        for (int64_t row = 0; row < job->rows; row++)
            for (int64_t i = 0; i < job->inputs; i++)
                sums[i] += (double)job->dz[row * job->outputs + o] * x[row * job->inputs + i];
        for (int64_t i = 0; i < job->inputs; i++)
            dweight[i] = (float)((job->a->fresh ? 0 : dweight[i]) + sums[i]);
    }
    free(sums);
}

void ref_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    const struct linear_args *f = &a->forward;
    int64_t count = tensor_count(a->dy);
    CHECK(f->act == ACTIVATION_NONE || f->act == ACTIVATION_RELU);
    float *dz = xmalloc((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++)
        dz[i] = f->act == ACTIVATION_RELU && ref_f32(f->y)[i] <= 0 ? 0 : ref_f32(a->dy)[i];
    struct linear_backward_job job = {a, dz, tensor_rows(a->dy), tensor_last(f->x),
                                      tensor_last(a->dy)};
    if (a->dx)
        parallel_for(job.rows, 8, input_gradients, &job);
    if (a->dweight)
        parallel_for(job.outputs, 8, weight_gradients, &job);
    if (a->fresh_bias)
        ref_clear(a->dbias);
    if (a->dbias)
        ref_add_column_sums(ref_f32(a->dbias), dz, job.rows, job.outputs);
    free(dz);
}
