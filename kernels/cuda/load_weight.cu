#include "kernels/cuda/internal.cuh"
#include "kernels/cuda/staging.cuh"

/* A piece is some slices of the first dimension, which both orders of a kernel keep together. */
struct loading {
    struct device *device;
    const struct load_weight_args *args;
    int64_t each; /* elements of a slice */
};

static void convert_piece(void *context, const void *on_device, size_t at, size_t bytes)
{
    const struct loading *l = (const struct loading *)context;
    const size_t slice = (size_t)l->each * size_of(l->args->dtype), first = at / slice;
    struct tensor from = *l->args->to, to = *l->args->to, *write = &to;
    const struct tensor *read = &from;
    from.dtype = l->args->dtype;
    from.channels_last = false;
    from.data = (void *)on_device;
    from.shape[0] = to.shape[0] = (int64_t)(bytes / slice);
    to.data = (char *)to.data + first * (size_t)l->each * size_of(to.dtype);
    const struct convert_weights_args convert = {1, &read, &write};
    cuda_convert_weights(l->device, &convert);
}

/* Slices that no piece can hold: rows of millions of numbers. */
static void load_whole(struct device *d, const struct load_weight_args *a, size_t bytes)
{
    const scratch raw(d, bytes);
    struct loading l = {d, a, count_of(a->to) / a->to->shape[0]};
    staging_upload(cuda_of(d)->staging, raw.data, a->host, bytes);
    convert_piece(&l, raw.data, 0, bytes);
}

void cuda_load_weight(struct device *d, const struct load_weight_args *a)
{
    const int64_t count = count_of(a->to);
    if (count == 0)
        return;
    struct loading l = {d, a, count / a->to->shape[0]};
    const size_t slice = (size_t)l.each * size_of(a->dtype),
                 bytes = (size_t)count * size_of(a->dtype);
    if (slice > STAGING_PIECE || bytes <= STAGING_PIECE) {
        load_whole(d, a, bytes);
        return;
    }
    const scratch room(d, STAGING_ROOM);
    const struct staging_pieces pieces = {
        (const char *)a->host, bytes,         STAGING_PIECE / slice * slice,
        room.as<char>(),       convert_piece, &l};
    staging_pass(cuda_of(d)->staging, &pieces);
}
