#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

/* Ops that have no loops of their own for BF16: with activations of that type they run on F32
 * copies, and their results are rounded. */

enum use { READ = 1, WRITTEN = 2 };

/* Members of an op's arguments that may be BF16 activations; weights are read as stored. */
struct member {
    size_t offset;
    enum use use;
};

enum { MEMBERS = 8 };

struct copies {
    int count;
    enum use use[MEMBERS];
    struct tensor *original[MEMBERS], *copy[MEMBERS];
};

static void convert(struct device *d, const struct tensor *from, struct tensor *to)
{
    cpu_cast(d, &(struct cast_args){from, to});
}

/* Replaces members that are BF16; another member may be the same tensor. */
static void widen(struct device *d, struct copies *c, void *args, const struct member *members,
                  int count)
{
    c->count = 0;
    for (int i = 0; i < count; i++) {
        struct tensor **at = (struct tensor **)((char *)args + members[i].offset), *t = *at;
        if (!t || t->dtype != DTYPE_BF16)
            continue;
        int k = c->count++;
        CHECK(k < MEMBERS);
        c->use[k] = members[i].use;
        c->original[k] = t;
        c->copy[k] = tensor_new(d, DTYPE_F32, t->ndim, t->shape);
        if (members[i].use & READ)
            convert(d, t, c->copy[k]);
        *at = c->copy[k];
    }
}

static void narrow(struct device *d, struct copies *c)
{
    for (int i = 0; i < c->count; i++) {
        if (c->use[i] & WRITTEN)
            convert(d, c->copy[i], c->original[i]);
        tensor_release(c->copy[i]);
    }
}

/* WIDENED(op, args, function, members ...) defines widened_op, which runs the function. */
#define IN(args, name)                                                                             \
    {                                                                                              \
        offsetof(struct args, name), READ                                                          \
    }
#define OUT(args, name)                                                                            \
    {                                                                                              \
        offsetof(struct args, name), WRITTEN                                                       \
    }
#define WIDENED(op, args, function, ...)                                                           \
    static void widened_##op(struct device *d, const struct args *a)                               \
    {                                                                                              \
        static const struct member members[] = {__VA_ARGS__};                                      \
        struct args copy = *a;                                                                     \
        struct copies c;                                                                           \
        widen(d, &c, &copy, members, (int)(sizeof members / sizeof *members));                     \
        function(d, &copy);                                                                        \
        narrow(d, &c);                                                                             \
    }

WIDENED(add_rows, add_rows_args, ref_add_rows, IN(add_rows_args, x), OUT(add_rows_args, y))
WIDENED(append_planes, append_planes_args, ref_append_planes, IN(append_planes_args, x),
        IN(append_planes_args, features), OUT(append_planes_args, y))
WIDENED(prepend_row, prepend_row_args, ref_prepend_row, IN(prepend_row_args, x),
        OUT(prepend_row_args, y))
WIDENED(take_row, take_row_args, ref_take_row, IN(take_row_args, x), OUT(take_row_args, y))
WIDENED(embedding, embedding_args, ref_embedding, OUT(embedding_args, y))
WIDENED(fourier_features, fourier_features_args, ref_fourier_features,
        OUT(fourier_features_args, y))
WIDENED(l2_normalize, l2_normalize_args, ref_l2_normalize, IN(l2_normalize_args, x),
        OUT(l2_normalize_args, y))
WIDENED(max_pool2x2, max_pool2x2_args, cpu_max_pool2x2, IN(max_pool2x2_args, x),
        OUT(max_pool2x2_args, y))
WIDENED(feature_distance, feature_distance_args, cpu_feature_distance, IN(feature_distance_args, a),
        IN(feature_distance_args, b), OUT(feature_distance_args, y))
WIDENED(to_nhwc, to_nhwc_args, cpu_to_nhwc, OUT(to_nhwc_args, y))
WIDENED(to_nchw, to_nchw_args, cpu_to_nchw, IN(to_nchw_args, x))

#define BACKWARD(op, function, ...)                                                                \
    WIDENED(op##_backward, op##_backward_args, function, __VA_ARGS__)
BACKWARD(add_rows, ref_add_rows_backward, IN(add_rows_backward_args, dy))
BACKWARD(append_planes, ref_append_planes_backward, IN(append_planes_backward_args, dy),
         OUT(append_planes_backward_args, dx))
BACKWARD(prepend_row, ref_prepend_row_backward, IN(prepend_row_backward_args, dy),
         OUT(prepend_row_backward_args, dx))
BACKWARD(take_row, ref_take_row_backward, IN(take_row_backward_args, dy),
         OUT(take_row_backward_args, dx))
BACKWARD(embedding, cpu_embedding_backward, IN(embedding_backward_args, dy))
BACKWARD(l2_normalize, ref_l2_normalize_backward, IN(l2_normalize_backward_args, forward.x),
         IN(l2_normalize_backward_args, dy), OUT(l2_normalize_backward_args, dx))
BACKWARD(max_pool2x2, cpu_max_pool2x2_backward, IN(max_pool2x2_backward_args, forward.x),
         IN(max_pool2x2_backward_args, dy), OUT(max_pool2x2_backward_args, dx))
BACKWARD(upsample_bilinear2x, cpu_upsample_bilinear2x_backward,
         IN(upsample_bilinear2x_backward_args, dy), OUT(upsample_bilinear2x_backward_args, dx),
         OUT(upsample_bilinear2x_backward_args, dbeside))
BACKWARD(feature_distance, cpu_feature_distance_backward,
         IN(feature_distance_backward_args, forward.a),
         IN(feature_distance_backward_args, forward.b), OUT(feature_distance_backward_args, db))
BACKWARD(to_nhwc, ref_to_nhwc_backward, IN(to_nhwc_backward_args, dy))
BACKWARD(to_nchw, ref_to_nchw_backward, OUT(to_nchw_backward_args, dx))

void cpu_widened_init(struct backend *b)
{
    b->add_rows = widened_add_rows;
    b->append_planes = widened_append_planes;
    b->prepend_row = widened_prepend_row;
    b->take_row = widened_take_row;
    b->embedding = widened_embedding;
    b->fourier_features = widened_fourier_features;
    b->l2_normalize = widened_l2_normalize;
    b->max_pool2x2 = widened_max_pool2x2;
    b->feature_distance = widened_feature_distance;
    b->to_nhwc = widened_to_nhwc;
    b->to_nchw = widened_to_nchw;
    b->add_rows_backward = widened_add_rows_backward;
    b->append_planes_backward = widened_append_planes_backward;
    b->prepend_row_backward = widened_prepend_row_backward;
    b->take_row_backward = widened_take_row_backward;
    b->embedding_backward = widened_embedding_backward;
    b->l2_normalize_backward = widened_l2_normalize_backward;
    b->max_pool2x2_backward = widened_max_pool2x2_backward;
    b->upsample_bilinear2x_backward = widened_upsample_bilinear2x_backward;
    b->feature_distance_backward = widened_feature_distance_backward;
    b->to_nhwc_backward = widened_to_nhwc_backward;
    b->to_nchw_backward = widened_to_nchw_backward;
}
