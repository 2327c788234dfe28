#include "common/score/products.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "kernels/ops.h"

struct tensor *products_upload(struct tape *t, const float *rows, int64_t count, int64_t width)
{
    return tensor_from_f32(t->device, DIMS(count, width), rows);
}

void products_run(float *out, struct tape *t, const struct products_block *block)
{
    int64_t width = tensor_last(block->a);
    bool tf32 = t->device->tf32;
    struct tensor *rows = tensor_slice(block->a, block->first_row, block->rows);
    struct tensor *columns = tensor_slice(block->b, block->first_column, block->columns);
    /* Of two dimensions it would be taken for a few conditioning vectors (kernels/cpu/linear.c). */
    struct tensor *sequence = tensor_reshape(rows, DIMS(1, block->rows, width));
    t->device->tf32 = false;
    struct tensor *product = linear(t, sequence, columns, NULL, ACTIVATION_NONE);
    t->device->tf32 = tf32;
    tensor_to_f32(product, out);
    tensor_release(product);
    tensor_release(sequence);
    tensor_release(columns);
    tensor_release(rows);
}

void split_rows_upload(struct split_rows *s, struct tape *t, const float *rows, int64_t count,
                       int64_t width)
{
    size_t bytes = (size_t)(count * width) * sizeof *rows;
    float *coarse = xmalloc(bytes), *left = xmalloc(2 * bytes), *right = xmalloc(2 * bytes);
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < width; j++) {
            float x = rows[i * width + j], x1 = rintf(x * 2048) / 2048;
            coarse[i * width + j] = right[2 * i * width + j] = x1;
            left[2 * i * width + j] = right[(2 * i + 1) * width + j] = x - x1;
            left[(2 * i + 1) * width + j] = x;
        }
    }
    s->coarse = products_upload(t, coarse, count, width);
    s->left = products_upload(t, left, count, 2 * width);
    s->right = products_upload(t, right, count, 2 * width);
    s->count = count;
    free(coarse);
    free(left);
    free(right);
}

void split_rows_release(struct split_rows *s)
{
    tensor_release(s->coarse);
    tensor_release(s->left);
    tensor_release(s->right);
}

void products_run_split(double *out, struct tape *t, const struct split_rows *a,
                        const struct split_rows *b)
{
    int64_t n = a->count * b->count;
    float *part = xmalloc((size_t)n * sizeof *part);
    struct products_block block = {
        .a = a->coarse, .b = b->coarse, .rows = a->count, .columns = b->count};
    products_run(part, t, &block);
    for (int64_t i = 0; i < n; i++)
        out[i] = part[i];
    block.a = a->left;
    block.b = b->right;
    products_run(part, t, &block);
    for (int64_t i = 0; i < n; i++)
        out[i] += part[i];
    free(part);
}
