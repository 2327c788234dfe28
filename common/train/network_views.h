#ifndef CCLD_TRAIN_NETWORK_VIEWS_H
#define CCLD_TRAIN_NETWORK_VIEWS_H

#include "common/nets/network.h"
#include "common/train/parameters.h"

/* A network whose weights are an array of parameters: it reads that very memory, so an update needs
 * no reloading, only loader_refresh for working copies. */
struct network_view {
    const struct network_functions *functions;
    struct named_weights names;
    void *network; /* NULL: not open */
};
/* v: zeroed. which: ARRAY_WEIGHTS or ARRAY_EMA. p must outlive v. After a failure, release v. */
int network_view_open(struct network_view *v, const struct network_functions *functions,
                      const struct parameters *p, enum parameter_array which, struct error *e);
void network_view_release(struct network_view *v); /* zeroed is fine */
struct loader *network_view_loader(const struct network_view *v);

/* The two views that training needs: the network that is trained, and the one with averaged weights
 * (EMA) that is evaluated, opened when first used. At most one of them keeps working copies that
 * the other does not need: those of the averaged weights last until the next micro-batch. */
struct network_views {
    struct parameters *parameters;
    struct network_view trained, averaged;
    bool averaged_is_fresh; /* its working copies match its weights */
};
/* Opens the trained network and directs its gradients to p. After a failure, release v. */
int network_views_open(struct network_views *v, const struct network_functions *functions,
                       struct parameters *p, struct error *e);
void network_views_release(struct network_views *v); /* zeroed is fine */
/* Call before each micro-batch. Returns the trained network. */
void *network_views_train(struct network_views *v);
/* Call after each applied update. */
void network_views_refresh(struct network_views *v);
/* The network to evaluate: which is ARRAY_WEIGHTS or ARRAY_EMA, for which all ranks must call it or
 * parameters_gather_ema. A gathered EMA lasts until the next micro-batch, too. */
void *network_views_evaluate(struct network_views *v, enum parameter_array which);

#endif
