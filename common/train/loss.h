#ifndef CCLD_TRAIN_LOSS_H
#define CCLD_TRAIN_LOSS_H

#include "kernels/tensor.h"

/* The loss of CLOOB; the others are ops (kernels/losses.h). It costs little compared with the
 * networks, so the host computes it in double. All tensors are F32; the caller releases returned
 * ones. */

/* CLOOB's loss (Fuerst et al., arXiv 2110.11316, scaled as in crowsonkb/cloob-training): a Hopfield
 * network retrieves patterns of both kinds from the batch's images and from its texts; InfoLOOB
 * contrasts each pair with the others. image, text: [n, d], n >= 2, rows of length 1. */
struct cloob_loss {
    double total;
    struct tensor *dimage, *dtext;
};
void cloob_loss(struct cloob_loss *out, const struct tensor *image, const struct tensor *text,
                double inv_tau, double scale_hopfield);

#endif
