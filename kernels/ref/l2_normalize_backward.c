#include "kernels/backward.h"
#include "kernels/ref/ref.h"

/* With u = x / |x|: dx = (dy - u (u . dy)) * scale / |x|; below eps the norm counts as a constant.
 */
void ref_l2_normalize_backward(struct device *d, const struct l2_normalize_backward_args *a)
{
    int64_t c = tensor_last(a->dx);
    for (int64_t row = 0; row < tensor_rows(a->dx); row++) {
        const float *x = ref_f32(a->forward.x) + row * c, *dy = ref_f32(a->dy) + row * c;
        double length = sqrt(ref_dot(x, x, c)), along = 0;
        if (length > a->forward.eps)
            along = ref_dot(x, dy, c) / (length * length);
        else
            length = a->forward.eps;
        for (int64_t i = 0; i < c; i++)
            ref_f32(a->dx)[row * c + i] =
                (float)((dy[i] - x[i] * along) * a->forward.scale / length);
    }
}
