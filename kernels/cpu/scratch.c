#include "common/base/threads.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matmul.h"

/* What ops of this backend allocate while they run, for a dry run: the ops whose scratch memory may
 * be large next to their tensors, with bounds that are at most a few percent too high. */

static void take_bytes(struct device *d, size_t bytes)
{
    size_t granted;
    void *data = device_allocate(d, bytes, &granted);
    device_release(d, data, granted);
}

static void take(struct device *d, int64_t floats)
{
    take_bytes(d, (size_t)floats * sizeof(float));
}

/* Floats that BF16 is converted to. */
static int64_t converted(const struct tensor *t, int64_t floats)
{
    return t->dtype == DTYPE_F32 ? 0 : floats;
}

static void scratch_conv2d(struct device *d, const struct conv2d_args *a)
{
    take_bytes(d, cpu_conv2d_bytes(a));
}

static void scratch_conv2d_backward(struct device *d, const struct conv2d_backward_args *a)
{
    const struct conv2d_args *f = &a->forward;
    const int64_t *w = f->weight->shape, *y = a->dy->shape;
    if (a->dx) {
        struct tensor *flipped =
            tensor_new(d, cpu_conv2d_flipped_dtype(a), DIMS(w[1], w[0], w[2], w[3]));
        struct tensor *dy = tensor_new(d, a->dy->dtype,
                                       DIMS(y[0], (y[1] - 1) * f->stride + 1,
                                            (y[2] - 1) * f->stride + 1, f->stride > 1 ? y[3] : 0));
        int pad = (int)w[2] - 1 - f->pad_begin;
        const struct tensor *from = f->stride > 1 ? dy : a->dy;
        struct conv2d_args back = {from, flipped, NULL, a->dx, 1, pad, pad, NULL};
        scratch_conv2d(d, &back);
        tensor_release(dy);
        tensor_release(flipped);
    }
    if (a->dweight)
        take_bytes(d, cpu_conv2d_by_weights_bytes(a));
}

static void scratch_attention(struct device *d, const struct attention_args *a)
{
    int64_t keys = round_up(a->s, ISA_MAX_LANES), width = round_up(a->d, ISA_MAX_LANES);
    int64_t wide = converted(a->y, (a->s + ISA_MAX_ROWS) * (a->d + ISA_MAX_ROWS / 2));
    take(d, (keys * a->d + width * (a->s + 1) + ISA_MAX_ROWS * (keys + ISA_MAX_COLUMNS) + keys +
             width + wide) *
                threads_count());
}

static void scratch_attention_backward(struct device *d, const struct attention_backward_args *a)
{
    const struct attention_args *f = &a->forward;
    if (cpu_attention_is_bf16(f, a->dy->dtype)) {
        take_bytes(d, cpu_attention_backward_bf16_bytes(f));
        return;
    }
    int64_t keys = round_up(f->s, ISA_MAX_LANES), width = round_up(f->d, ISA_MAX_LANES);
    int64_t wide = keys > width ? keys : width;
    take(d, (wide * (f->s > f->d ? f->s : f->d) + keys * f->d + 2 * keys * keys + keys * width +
             wide + converted(a->dy, f->s * f->d)) *
                threads_count());
}

static void scratch_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    bool masks = a->forward.act == ACTIVATION_RELU;
    size_t bytes = masks ? (size_t)tensor_count(a->dy) * dtype_size(a->dy->dtype) : 0;
    if (cpu_linear_is_by_weights_bf16(a))
        bytes += matmul_outer_bf16_bytes(tensor_last(a->dy), tensor_last(a->forward.x),
                                         tensor_rows(a->dy), 1);
    else if (a->dweight)
        bytes += matmul_outer_bytes();
    take_bytes(d, bytes);
}

void cpu_scratch_init(struct backend *b)
{
    b->bf16 = b->fuses_bf16 = true;
    b->conv2d = scratch_conv2d;
    b->conv2d_backward = scratch_conv2d_backward;
    b->attention = scratch_attention;
    b->attention_backward = scratch_attention_backward;
    b->linear_backward = scratch_linear_backward;
}
