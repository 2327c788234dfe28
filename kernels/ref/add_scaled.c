#include "kernels/device.h"
#include "kernels/ref/ref.h"

/* Runs the device's linear_combination. */
void ref_add_scaled(struct device *d, const struct add_scaled_args *a)
{
    struct linear_combination_args sum = {
        .count = 2, .x = {a->a, a->b}, .coefficients = {1, (float)ref_f64(a->scale)[0]}, .y = a->y};
    d->backend->linear_combination(d, &sum);
}
