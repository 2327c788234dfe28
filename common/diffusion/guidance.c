#include "common/diffusion/guidance.h"

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
