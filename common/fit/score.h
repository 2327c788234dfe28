#ifndef CCLD_FIT_SCORE_H
#define CCLD_FIT_SCORE_H

#include "common/data/latent_set.h"
#include "common/fit/loop.h"
#include "common/nets/model.h"

/* Scores of a checkpoint: samples for the embeddings of held-out images, embedded again and
 * compared with the embeddings asked for and with those of training images (common/score/). The
 * samples are made with averaged weights, SCORE_STEPS steps of DPM-Solver++(2M) and no guidance,
 * from noise that depends on the seed alone, so that scores of one run can be compared. */
#define SCORE_STEPS     20
#define SCORE_REFERENCE 10000 /* training images at most */
struct score;

struct score_options {
    struct model_paths model; /* of the autoencoder and CLOOB */
    int64_t images;           /* to sample, for as many held-out records */
    int64_t batch;            /* images sampled together */
    uint64_t seed;
    double autoencoder_scale, embed_noise;
    int height, width; /* pixels */
};

/* Bytes that scoring takes on the device besides the parameters p, which are on a dry device. Fails
 * if the networks cannot be loaded or do not fit together. */
int score_memory(int64_t *bytes, const struct score_options *o, const struct parameters *p,
                 struct latent_set *data, struct error *e);
/* Reads the embeddings. Fails if too few images are held out or can be read, or if the data were
 * not encoded with these networks. p must outlive it. */
int score_open(struct score **out, const struct score_options *o, const struct parameters *p,
               struct latent_set *data, struct error *e);
void score_close(struct score *s); /* NULL is fine */
/* Samples and appends score/cosine, score/frechet, score/kernel, score/precision and score/recall
 * to n. 1: *stop ended it. */
int score_run(struct score *s, struct fit_numbers *n, const volatile sig_atomic_t *stop,
              struct error *e);

#endif
