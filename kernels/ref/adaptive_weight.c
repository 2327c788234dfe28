#include "kernels/ref/ref.h"
#include "kernels/training.h"

static double root(const double *squares, int64_t segments)
{
    double sum = 0;
    for (int64_t i = 0; i < segments; i++)
        sum += squares[i];
    return sqrt(sum);
}

void ref_adaptive_weight(struct device *d, const struct adaptive_weight_args *a)
{
    double of_nll = root(a->nll, a->segments), of_generator = root(a->generator, a->segments);
    double scale = ref_f64(a->weight)[0] * a->images;
    double ratio = of_nll / (of_generator + a->epsilon * scale);
    ref_f64(a->w)[0] = a->disc_weight * (ratio > a->most ? a->most : ratio);
}
