#include "kernels/ref/ref.h"

void ref_embedding(struct device *d, const struct embedding_args *a)
{
    const int32_t *tokens = a->tokens->data;
    int64_t rows = a->table->shape[0], c = a->table->shape[1];
    for (int64_t i = 0; i < tensor_count(a->tokens); i++) {
        CHECK(tokens[i] >= 0 && tokens[i] < rows);
        const char *row =
            (const char *)a->table->data + (size_t)(tokens[i] * c) * dtype_size(a->table->dtype);
        dtype_to_f32(ref_f32(a->y) + i * c, a->table->dtype, row, (size_t)c);
    }
}
