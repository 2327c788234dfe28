#include "kernels/cuda/bias.cuh"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/working_weight.cuh"

void cuda_linear(struct device *d, const struct linear_args *a)
{
    const bool in_product = a->act == ACTIVATION_NONE || a->act == ACTIVATION_RELU;
    working_weight weight(d, a->weight, a->x->dtype);
    struct matrix_product p = {};
    p.rows = rows_of(a->x);
    p.columns = a->weight->shape[0];
    p.inner = a->x->shape[a->x->ndim - 1];
    p.type = a->x->dtype;
    p.c_type = a->y->dtype;
    p.a = a->x->data;
    p.b = weight.data;
    p.c = a->y->data;
    p.ld_a = p.ld_b = p.inner;
    p.ld_c = p.columns;
    p.transpose_b = true;
    p.addend = a->residual ? a->residual->data : nullptr;
    p.beta = a->residual ? 1 : 0;
    p.bias = in_product ? a->bias : nullptr;
    p.relu = a->act == ACTIVATION_RELU;
    matrix_product(d, &p);
    /* The library's GELU is the tanh approximation, and it has no SiLU. */
    if (!in_product)
        bias_activate(d, p.c_type, p.rows, p.columns, vector_of(a->bias), a->act, p.c);
}

/* dz: the gradient before the activation, [rows, outputs]. */
static void input_gradient(struct device *d, const struct linear_backward_args *a, const void *dz)
{
    working_weight weight(d, a->forward.weight, a->dy->dtype);
    struct matrix_product p = {};
    p.rows = rows_of(a->dy);
    p.columns = a->forward.x->shape[a->forward.x->ndim - 1];
    p.inner = a->forward.weight->shape[0];
    p.type = a->dy->dtype;
    p.c_type = a->dx->dtype;
    p.a = dz;
    p.b = weight.data;
    p.c = a->dx->data;
    p.ld_a = p.inner;
    p.ld_b = p.ld_c = p.columns;
    p.beta = a->adds ? 1 : 0;
    matrix_product(d, &p);
    lap_of_part(d, PART_INPUT_GRADIENT);
}

/* bias: where the bias's gradient goes, too, or null. */
static void weight_gradient(struct device *d, const struct linear_backward_args *a, const void *dz,
                            float *bias)
{
    struct matrix_product p = {};
    p.rows = a->forward.weight->shape[0];
    p.columns = a->forward.x->shape[a->forward.x->ndim - 1];
    p.inner = rows_of(a->dy);
    p.type = a->dy->dtype;
    p.c_type = a->dweight->dtype;
    p.a = dz;
    p.b = a->forward.x->data;
    p.c = a->dweight->data;
    p.ld_a = p.rows;
    p.ld_b = p.ld_c = p.columns;
    p.transpose_a = true;
    p.beta = a->fresh ? 0 : 1;
    p.a_sums = bias;
    matrix_product(d, &p);
    lap_of_part(d, PART_WEIGHT_GRADIENT);
}

void cuda_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    const struct linear_args *f = &a->forward;
    const enum dtype type = a->dy->dtype;
    const int64_t rows = rows_of(a->dy), outputs = f->weight->shape[0];
    const bool relu = f->act == ACTIVATION_RELU;
    float *bias = a->dbias ? (float *)a->dbias->data : nullptr;
    if (f->act != ACTIVATION_NONE && !relu)
        plugin_host->die("CUDA backend: no gradient of linear with activation %d", (int)f->act);
    scratch masked(d, relu ? (size_t)(rows * outputs) * size_of(type) : 1);
    const void *dz = relu ? masked.data : a->dy->data;
    if (relu) {
        relu_gradient(d, type, rows * outputs, f->y->data, a->dy->data, masked.data);
        lap_of_part(d, PART_OTHER);
    }
    const bool with_product = bias && a->dweight && a->fresh_bias && rows > 0;
    if (bias && !with_product) {
        add_column_sums(d, bias, type, dz, rows, outputs, outputs, a->fresh_bias);
        lap_of_part(d, PART_BIAS_GRADIENT);
    }
    if (a->dx)
        input_gradient(d, a, dz);
    if (a->dweight)
        weight_gradient(d, a, dz, with_product ? bias : nullptr);
}
