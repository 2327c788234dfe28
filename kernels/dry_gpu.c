#include "kernels/device.h"
#include "kernels/patches.h"

/* What ops of a GPU allocate while they run, for a dry run: those whose scratch memory may be large
 * next to their tensors. Workspaces of NVIDIA's libraries are not known before. */

static void take(struct device *d, int64_t bytes)
{
    size_t granted;
    void *data = device_allocate(d, (size_t)bytes, &granted);
    device_release(d, data, granted);
}

static int64_t bytes_of(const struct device *d, int64_t elements)
{
    return elements * (int64_t)dtype_size(d->compute);
}

/* Patches of small images may be gathered for a product, as are those that do not overlap. */
static void take_patches(struct device *d, const struct conv2d_args *a, const struct tensor *y,
                         bool always)
{
    const int64_t *kernel = a->weight->shape;
    int64_t pixels = tensor_rows(y), taps = kernel[2] * kernel[3];
    bool may = d->compute != DTYPE_F32 && a->stride == 1 &&
               patches_may_be_gathered(pixels, y->shape[1] * y->shape[2], taps, kernel[1]);
    if (always || may)
        take(d, bytes_of(d, pixels * kernel[1] * taps));
}

static void scratch_conv2d(struct device *d, const struct conv2d_args *a)
{
    int64_t kernel = a->weight->shape[2];
    bool apart = kernel > 1 && kernel == a->stride && a->pad_begin == 0 && a->pad_end == 0;
    take_patches(d, a, a->y, apart);
}

/* The library writes gradients of kernels in the activations' type. */
static void scratch_conv2d_backward(struct device *d, const struct conv2d_backward_args *a)
{
    if (a->dx)
        take_patches(d, &a->forward, a->dy, false);
    if (a->dweight && !a->dweight->channels_last)
        take(d, bytes_of(d, tensor_count(a->dweight)));
}

static void scratch_linear_backward(struct device *d, const struct linear_backward_args *a)
{
    if (a->forward.act == ACTIVATION_RELU)
        take(d, bytes_of(d, tensor_count(a->dy)));
}

/* The sums of an image's parts. */
static void scratch_group_norm_backward(struct device *d, const struct group_norm_backward_args *a)
{
    enum { PARTS = 32 };
    int64_t images = a->dy->shape[0], channels = tensor_last(a->dy);
    take(d, images * PARTS * 3 * channels * (int64_t)sizeof(float));
}

static void scratch_cloob_loss(struct device *d, const struct cloob_loss_args *a)
{
    int64_t n = a->image->shape[0], width = a->image->shape[1];
    take(d, (3 * n * n + 4 * n * width + 2 * n) * (int64_t)sizeof(float));
}

/* Weights are converted as they arrive, in pieces that take turns in this much room. */
static void load_weight(struct device *d, const struct load_weight_args *a)
{
    const int64_t room = (int64_t)24 << 20;
    int64_t raw = tensor_count(a->to) * (int64_t)dtype_size(a->dtype);
    take(d, raw < room ? raw : room);
}

void gpu_scratch_init(struct backend *b)
{
    b->load_weight = load_weight;
    b->conv2d = scratch_conv2d;
    b->conv2d_backward = scratch_conv2d_backward;
    b->linear_backward = scratch_linear_backward;
    b->group_norm_backward = scratch_group_norm_backward;
    b->cloob_loss = scratch_cloob_loss;
}
