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

void cuda_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    const struct linear_args *f = &a->forward;
    const enum dtype type = a->dy->dtype;
    const int64_t rows = rows_of(a->dy), inputs = f->x->shape[f->x->ndim - 1];
    const int64_t outputs = f->weight->shape[0];
    const bool relu = f->act == ACTIVATION_RELU;
    if (f->act != ACTIVATION_NONE && !relu)
        plugin_host->die("CUDA backend: no gradient of linear with activation %d", (int)f->act);
    scratch masked(d, relu ? (size_t)(rows * outputs) * size_of(type) : 1);
    const void *dz = relu ? masked.data : a->dy->data;
    if (relu) {
        relu_gradient(d, type, rows * outputs, f->y->data, a->dy->data, masked.data);
        lap_of_part(d, PART_OTHER);
    }
    const bool with_product = a->dbias && a->dweight && a->fresh_bias && rows > 0;
    if (a->dbias && !with_product) {
        add_column_sums(d, (float *)a->dbias->data, type, dz, rows, outputs, outputs,
                        a->fresh_bias);
        lap_of_part(d, PART_BIAS_GRADIENT);
    }
    if (a->dx) {
        working_weight weight(d, f->weight, type);
        struct matrix_product p = {};
        p.rows = rows;
        p.columns = inputs;
        p.inner = outputs;
        p.type = type;
        p.c_type = a->dx->dtype;
        p.a = dz;
        p.b = weight.data;
        p.c = a->dx->data;
        p.ld_a = outputs;
        p.ld_b = p.ld_c = inputs;
        p.beta = a->adds ? 1 : 0;
        matrix_product(d, &p);
        lap_of_part(d, PART_INPUT_GRADIENT);
    }
    if (a->dweight) {
        struct matrix_product p = {};
        p.rows = outputs;
        p.columns = inputs;
        p.inner = rows;
        p.type = type;
        p.c_type = DTYPE_F32;
        p.a = dz;
        p.b = f->x->data;
        p.c = a->dweight->data;
        p.ld_a = outputs;
        p.ld_b = p.ld_c = inputs;
        p.transpose_a = true;
        p.beta = a->fresh ? 0 : 1;
        p.a_sums = with_product ? (float *)a->dbias->data : nullptr;
        matrix_product(d, &p);
        lap_of_part(d, PART_WEIGHT_GRADIENT);
    }
}
