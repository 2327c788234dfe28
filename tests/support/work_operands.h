/* The operands of each op, each counted once: bytes of the tensors in its arguments. Rules in
 * work.c refer to them by position. */
#define T(t)                         bytes_of(t)
#define OPERANDS_conv2d              T(a->x), T(a->weight), T(a->y)
#define OPERANDS_linear              T(a->x), T(a->weight), T(a->y)
#define OPERANDS_group_norm          T(a->x), T(a->y), T(a->residual)
#define OPERANDS_layer_norm          T(a->x), T(a->y)
#define OPERANDS_attention           3 * T(a->y), T(a->y)
#define OPERANDS_activation          T(a->x), T(a->y)
#define OPERANDS_cast                T(a->x), T(a->y)
#define OPERANDS_add                 T(a->a), T(a->b), T(a->y)
#define OPERANDS_add_rows            T(a->x), T(a->y)
#define OPERANDS_concat              T(a->a), T(a->b), T(a->y)
#define OPERANDS_append_planes       T(a->x), T(a->y)
#define OPERANDS_prepend_row         T(a->x), T(a->y)
#define OPERANDS_take_row            T(a->y), T(a->y)
#define OPERANDS_embedding           T(a->tokens), 2 * T(a->y)
#define OPERANDS_fourier_features    T(a->y)
#define OPERANDS_l2_normalize        T(a->x), T(a->y)
#define OPERANDS_avg_pool2x2         T(a->x), T(a->y)
#define OPERANDS_max_pool2x2         T(a->x), T(a->y)
#define OPERANDS_upsample_nearest2x  T(a->x), T(a->y)
#define OPERANDS_upsample_bilinear2x T(a->x), T(a->beside)
#define OPERANDS_feature_distance    T(a->a), T(a->b)
#define OPERANDS_to_nhwc             T(a->x), T(a->y)
#define OPERANDS_to_nchw             T(a->x), T(a->y)
#define OPERANDS_linear_combination  (a->count + 1) * T(a->y)

#define OPERANDS_normals        T(a->y)
#define OPERANDS_noised_latents T(a->moments), T(a->noise), T(a->noise), T(a->noisy), T(a->target)
#define OPERANDS_mse            T(a->x), T(a->target), T(a->dx)
#define OPERANDS_adamw          (double)a->count *(a->ema ? 36 : 28)
#define OPERANDS_moving_average (double)a->count * 12
#define OPERANDS_square_sums    (double)a->count * 4 - (double)(a->copies ? a->copies->spared : 0)
#define OPERANDS_fill           (double)a->count * 4
#define OPERANDS_update                                                                            \
    (double)a->count *(a->ema ? 36 : 28) +                                                         \
        (double)(a->copies ? a->copies->bytes - a->copies->spared : 0)

#define OPERANDS_posterior            T(a->moments), T(a->noise), T(a->z)
#define OPERANDS_posterior_backward   T(a->moments), T(a->noise), T(a->dz), T(a->dmoments)
#define OPERANDS_reconstruction_error T(a->x), T(a->y), T(a->dy)
#define OPERANDS_hinge_loss           T(a->x), T(a->dx)
#define OPERANDS_adaptive_weight      2.0 * (double)a->segments * 8
#define OPERANDS_cloob_loss           2 * T(a->image), 2 * T(a->text)
#define OPERANDS_fill_scaled          T(a->y)
#define OPERANDS_add_scaled           T(a->a), T(a->b), T(a->y)
#define OPERANDS_copy                 0

/* dy, dweight as read and written, dweight as the library writes it */
#define OPERANDS_conv2d_backward                                                                   \
    T(a->dy), T(a->dweight) * (a->fresh ? 1 : 2),                                                  \
        a->dweight ? T(a->dweight) / 4 * (double)dtype_size(a->dy->dtype) : 0
#define OPERANDS_linear_backward              T(a->dy)
#define OPERANDS_group_norm_backward          T(a->forward.x), T(a->dy), T(a->dx) * (a->adds ? 2 : 1)
#define OPERANDS_layer_norm_backward          T(a->forward.x), T(a->dy), T(a->dx)
#define OPERANDS_attention_backward           T(a->dy)
#define OPERANDS_activation_backward          T(a->forward.x), T(a->dy), T(a->dx)
#define OPERANDS_add_rows_backward            T(a->dy)
#define OPERANDS_concat_backward              T(a->dy), T(a->da), T(a->db)
#define OPERANDS_append_planes_backward       T(a->dy), T(a->dx)
#define OPERANDS_prepend_row_backward         T(a->dy), T(a->dx)
#define OPERANDS_take_row_backward            T(a->dy), T(a->dx)
#define OPERANDS_embedding_backward           T(a->dy), T(a->dtable)
#define OPERANDS_l2_normalize_backward        T(a->forward.x), T(a->dy), T(a->dx)
#define OPERANDS_avg_pool2x2_backward         T(a->dy), T(a->dx) * (a->adds ? 2 : 1)
#define OPERANDS_max_pool2x2_backward         T(a->forward.x), T(a->dy), T(a->dx)
#define OPERANDS_upsample_nearest2x_backward  T(a->dy), T(a->dx)
#define OPERANDS_upsample_bilinear2x_backward T(a->dx), T(a->dbeside)
#define OPERANDS_feature_distance_backward    T(a->forward.a), T(a->forward.b), T(a->db)
#define OPERANDS_to_nhwc_backward             T(a->dy), T(a->dx)
#define OPERANDS_to_nchw_backward             T(a->dy), T(a->dx)
