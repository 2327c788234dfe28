#ifndef CCLD_TRAIN_LOSS_H
#define CCLD_TRAIN_LOSS_H

#include "kernels/tensor.h"

/* The op cloob_loss (kernels/losses.h) for tensors at hand: image, text: [n, d], F32, n >= 2. The
 * caller releases the gradients. */
struct cloob_loss {
    double total, cosine;
    struct tensor *dimage, *dtext;
};
void cloob_loss(struct cloob_loss *out, const struct tensor *image, const struct tensor *text,
                double inv_tau, double scale_hopfield);

#endif
