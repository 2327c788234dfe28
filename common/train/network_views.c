#include "common/train/network_views.h"

#include "common/base/message.h"

int network_view_open(struct network_view *v, const struct network_functions *functions,
                      const struct parameters *p, enum parameter_array which, struct error *e)
{
    v->functions = functions;
    parameters_names(&v->names, p, which);
    return functions->load(&v->network, &v->names, p->device, e);
}

void network_view_release(struct network_view *v)
{
    if (!v->functions)
        return;
    v->functions->free(v->network);
    names_release(&v->names);
    *v = (struct network_view){0};
}

struct loader *network_view_loader(const struct network_view *v)
{
    return v->functions->loader(v->network);
}

int network_views_open(struct network_views *v, const struct network_functions *functions,
                       struct parameters *p, struct error *e)
{
    *v = (struct network_views){.parameters = p};
    if (network_view_open(&v->trained, functions, p, ARRAY_WEIGHTS, e) != 0)
        return -1;
    parameters_bind(p, network_view_loader(&v->trained));
    network_views_refresh(v);
    return 0;
}

void network_views_release(struct network_views *v)
{
    network_view_release(&v->trained);
    network_view_release(&v->averaged);
}

void *network_views_train(struct network_views *v)
{
    if (v->parameters->whole_ema) {
        network_view_release(&v->averaged);
        parameters_drop_ema(v->parameters);
    } else if (v->averaged_is_fresh) {
        loader_forget_copies(network_view_loader(&v->averaged));
    }
    v->averaged_is_fresh = false;
    return v->trained.network;
}

void network_views_refresh(struct network_views *v)
{
    loader_refresh(network_view_loader(&v->trained));
}

void *network_views_evaluate(struct network_views *v, enum parameter_array which)
{
    struct error e;
    if (which != ARRAY_EMA)
        return v->trained.network;
    parameters_gather_ema(v->parameters);
    if (!v->averaged.network &&
        network_view_open(&v->averaged, v->trained.functions, v->parameters, ARRAY_EMA, &e) != 0)
        die("%s", e.text); /* the same names and shapes have been loaded before */
    if (!v->averaged_is_fresh)
        loader_refresh(network_view_loader(&v->averaged));
    v->averaged_is_fresh = true;
    return v->averaged.network;
}
