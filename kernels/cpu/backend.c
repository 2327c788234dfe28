#include "kernels/cpu/cpu.h"
#include "kernels/cpu/isa.h"

static const char *model(struct device *d)
{
    return d->compute == DTYPE_BF16 && cpu_bf16() ? cpu_bf16()->name : cpu_isa()->name;
}

void cpu_backend_init(struct backend *b)
{
    b->name = "cpu";
    b->model = model;
    b->bf16 = b->fuses_bf16 = true;
    b->fast_bf16 = cpu_bf16() != NULL;
    b->conv2d = cpu_conv2d;
    b->linear = cpu_linear;
    b->group_norm = cpu_group_norm;
    b->layer_norm = cpu_layer_norm;
    b->attention = cpu_attention;
    b->activation = cpu_activation;
    b->cast = cpu_cast;
    b->add = cpu_add;
    b->concat = cpu_concat;
    b->avg_pool2x2 = cpu_avg_pool2x2;
    b->upsample_nearest2x = cpu_upsample_nearest2x;
    b->upsample_bilinear2x = cpu_upsample_bilinear2x;
    b->linear_combination = cpu_linear_combination;
    b->conv2d_backward = cpu_conv2d_backward;
    b->linear_backward = cpu_linear_backward;
    b->group_norm_backward = cpu_group_norm_backward;
    b->layer_norm_backward = cpu_layer_norm_backward;
    b->attention_backward = cpu_attention_backward;
    b->activation_backward = cpu_activation_backward;
    b->concat_backward = cpu_concat_backward;
    b->avg_pool2x2_backward = cpu_avg_pool2x2_backward;
    b->upsample_nearest2x_backward = cpu_upsample_nearest2x_backward;
    cpu_widened_init(b);
    b->adamw = cpu_adamw;
    b->moving_average = cpu_moving_average;
    b->square_sums = cpu_square_sums;
    b->fill = cpu_fill;
}
