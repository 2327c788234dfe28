#include "kernels/backward.h"
#include "kernels/ref/ref.h"

void ref_embedding_backward(struct device *d, const struct embedding_backward_args *a)
{
    if (!a->dtable)
        return;
    const int32_t *tokens = a->forward.tokens->data;
    int64_t count = tensor_count(a->forward.tokens), c = tensor_last(a->dtable);
    for (int64_t i = 0; i < count; i++) {
        int64_t first = 0;
        while (tokens[first] != tokens[i])
            first++;
        if (first < i)
            continue; /* this token's rows were added already */
        for (int64_t e = 0; e < c; e++) {
            float *slot = ref_f32(a->dtable) + tokens[i] * c + e;
            double sum = *slot;
            for (int64_t j = i; j < count; j++)
                if (tokens[j] == tokens[i])
                    sum += ref_f32(a->dy)[j * c + e];
            *slot = (float)sum;
        }
    }
}
