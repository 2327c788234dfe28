#include "kernels/ref/ref.h"
#include "kernels/training.h"

void ref_copy(struct device *d, const struct copy_args *a)
{
    memcpy(a->to, a->from, a->bytes);
}
