#include "common/diffusion/guidance.h"

#include <stdlib.h>

#include "common/base/message.h"
#include "kernels/ops.h"

void guidance_weights(float *weights, const double *prompt_weights, int prompts)
{
    double sum = 0;
    for (int i = 0; i < prompts; i++) {
        weights[i + 1] = (float)prompt_weights[i];
        sum += prompt_weights[i];
    }
    weights[0] = (float)(1 - sum);
}

bool guidance_unguided_weights(float *weights, const float *guided, int prompts)
{
    double sum = 0;
    for (int i = 1; i <= prompts; i++)
        sum += guided[i];
    if (sum == 0)
        return false;
    weights[0] = 0;
    for (int i = 1; i <= prompts; i++)
        weights[i] = (float)(guided[i] / sum);
    return true;
}

struct tensor *guidance_combine(struct tape *t, int count, struct tensor *const *v,
                                const float *weights)
{
    struct tensor *sum = NULL, *x[LINEAR_COMBINATION_MAX];
    float coefficients[LINEAR_COMBINATION_MAX];
    CHECK(count >= 1);
    for (int i = 0; i < count || !sum;) {
        int terms = 0;
        if (sum) {
            x[terms] = sum;
            coefficients[terms++] = 1;
        }
        for (; i < count && terms < LINEAR_COMBINATION_MAX; i++) {
            if (weights[i] != 0) {
                x[terms] = v[i];
                coefficients[terms++] = weights[i];
            }
        }
        CHECK(terms > 0);
        tensor_replace(&sum, linear_combination(t, terms, x, coefficients));
    }
    return sum;
}

struct tensor *guidance_combine_stacked(struct tape *t, int count, struct tensor *v,
                                        const float *weights)
{
    CHECK(count >= 1 && v->shape[0] % count == 0);
    int64_t n = v->shape[0] / count;
    struct tensor **parts = xmalloc((size_t)count * sizeof *parts);
    for (int i = 0; i < count; i++)
        parts[i] = tensor_slice(v, i * n, n);
    struct tensor *sum = guidance_combine(t, count, parts, weights);
    for (int i = 0; i < count; i++)
        tensor_release(parts[i]);
    free(parts);
    return sum;
}
