#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/bias.cuh"
#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/library_plans.cuh"
#include "kernels/cuda/patch_products.h"

#define PLANS_TIMED     12
#define WORKSPACE_MOST  ((size_t)1 << 30)
#define WORKSPACE_LEAST ((size_t)32 << 20)

struct convolution_choice {
    struct convolution_problem key;
    struct convolution_plan plan;
    bool bias_apart; /* no engine adds the bias, or it is faster so */
    bool sum_apart;  /* no engine adds to the output */
    bool patches;    /* a product of patches is faster (patch_products.h) */
    struct convolution_choice *next;
};

struct convolution_plans {
    cudnnHandle_t handle;
    struct plan_cache *cache;
    struct convolution_choice *slots[PLAN_SLOTS];
};

static const char *reason(cudnnStatus_t status, char *text, size_t size)
{
    text[0] = 0;
    cudnnGetLastErrorString(text, size);
    text[strcspn(text, "\n")] = 0;
    return text[0] ? text : cudnnGetErrorString(status);
}

static void check(cudnnStatus_t status, const char *what)
{
    char text[512];
    if (status != CUDNN_STATUS_SUCCESS)
        plugin_host->die("cuDNN: %s: %s", what, reason(status, text, sizeof text));
}

struct convolution_plans *convolution_plans_new(struct device *d, const char *gpu)
{
    struct convolution_plans *p = (struct convolution_plans *)calloc(1, sizeof *p);
    char library[32];
    if (!p)
        plugin_host->die("out of memory");
    check(cudnnCreate(&p->handle), "cudnnCreate");
    check(cudnnSetStream(p->handle, stream_of(d)), "cudnnSetStream");
    snprintf(library, sizeof library, "cudnn-%zu", cudnnGetVersion());
    p->cache = plan_cache_new(plugin_host->cache_folder, library, gpu);
    return p;
}

void convolution_plans_free(struct convolution_plans *p)
{
    if (!p)
        return;
    for (struct convolution_choice *slot : p->slots) {
        while (slot) {
            struct convolution_choice *next = slot->next;
            delete slot;
            slot = next;
        }
    }
    cudnnDestroy(p->handle);
    plan_cache_free(p->cache);
    free(p);
}

/* The problem as text: the key on disk, and part of messages. */
static void describe(const struct convolution_problem *p, char *text, size_t size)
{
    static const char *const directions[] = {"forward", "backward_data", "backward_weight"};
    const struct convolution *c = &p->c;
    snprintf(text, size,
             "convolution_%s%s %s%s [%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
             "] kernel [%" PRId64 ",%" PRId64 ",%" PRId64 "] stride %d padding "
             "%d,%d bias %d alignment %d",
             directions[p->direction], p->adds ? " adding" : "", type_name(c->type),
             p->tf32 ? " tf32" : "", c->n, c->h, c->w, c->ci, c->co, c->kh, c->kw, c->stride,
             c->pad_begin, c->pad_end, p->bias, p->alignment);
}

/* With the limit of its workspace: a plan chosen when memory was free must not be used when it is
 * not. */
static void describe_with_limit(const struct convolution_problem *p, int64_t limit, char *text,
                                size_t size)
{
    describe(p, text, size);
    const size_t used = strlen(text);
    snprintf(text + used, size - used, " workspace %" PRId64, limit >> 20);
}

struct pointers {
    const void *x, *weight, *y, *bias, *residual; /* one of the first three is written */
    const struct tensor *bias_tensor;
};

static cudnnStatus_t execute(struct device *d, const struct convolution_plan *plan,
                             const struct pointers *at)
{
    int64_t ids[5] = {ID_INPUT, ID_WEIGHT, ID_OUTPUT}, count = 3;
    const void *data[5] = {at->x, at->weight, at->y};
    if (at->bias) {
        ids[count] = ID_BIAS;
        data[count++] = at->bias;
    }
    if (at->residual) {
        ids[count] = ID_RESIDUAL;
        data[count++] = at->residual;
    }
    scratch workspace(d, plan->workspace ? (size_t)plan->workspace : 1);
    descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, ids);
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, data);
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace.data);
    if (!pack.finalize())
        return pack.status;
    return cudnnBackendExecute(cuda_of(d)->plans->convolutions->handle, plan->plan.get(),
                               pack.get());
}

/* A power of two, so that runs that find slightly different amounts of free memory choose alike. */
static int64_t workspace_limit()
{
    size_t unused, total, limit = WORKSPACE_MOST;
    cuda_check(cudaMemGetInfo(&unused, &total));
    while (limit > WORKSPACE_LEAST && limit > unused / 2)
        limit /= 2;
    return (int64_t)limit;
}

/* Of backward_data to which is added: bytes of a sum apart; 1 of others. */
static size_t sum_bytes(const struct convolution_problem *p)
{
    const bool adds = p->adds && p->direction == CONVOLUTION_BACKWARD_DATA;
    return adds ? (size_t)(p->c.n * p->c.h * p->c.w * p->c.ci) * size_of(p->c.type) : 1;
}

/* Returns the fastest of the plans; each of them writes the output, but timing must not add to the
 * real one repeatedly. */
static int fastest(struct device *d, const struct convolution_problem *p,
                   struct convolution_plan *plans, int count, const struct pointers *at)
{
    const scratch sum(d, sum_bytes(p));
    struct pointers timed = *at;
    if (p->adds && p->direction == CONVOLUTION_BACKWARD_DATA)
        timed.x = sum.data;
    int best = -1;
    float least = -1;
    for (int i = 0; i < count; i++) {
        const float milliseconds = time_of(
            d, least, [&] { return execute(d, &plans[i], &timed) == CUDNN_STATUS_SUCCESS; });
        if (milliseconds >= 0 && (best < 0 || milliseconds < least)) {
            best = i;
            least = milliseconds;
        }
    }
    return best;
}

static bool may_time(struct device *d)
{
    return plan_cache_keeps(cuda_of(d)->plans->convolutions->cache) && !cuda_of(d)->recording;
}

/* Sets *plan. Returns false, with the reason, if the library cannot solve the problem. */
static bool choose_plan(struct device *d, const struct convolution_problem *p,
                        const struct pointers *at, struct convolution_plan *plan, char *why,
                        size_t why_size)
{
    struct convolution_plans *all = cuda_of(d)->plans->convolutions;
    char key[256];
    struct convolution_plan plans[PLANS_TIMED];
    const int64_t limit = workspace_limit();
    describe_with_limit(p, limit, key, sizeof key);
    outside_recording recording_rests;
    const descriptor graph = convolution_graph(all->handle, p);
    if (graph.status != CUDNN_STATUS_SUCCESS) {
        char text[512];
        snprintf(why, why_size, "%s", reason(graph.status, text, sizeof text));
        return false;
    }
    const char *known = plan_cache_get(all->cache, key);
    if (known && convolution_plan_named(all->handle, graph, known, plan))
        return true;
    int count = convolution_plans(all->handle, graph, p, limit, plans, PLANS_TIMED);
    if (!count) /* better slow than not at all */
        count = convolution_plans(all->handle, graph, p, INT64_MAX, plans, 1);
    if (!count) {
        snprintf(why, why_size, "no engine");
        return false;
    }
    int best = 0;
    if (may_time(d)) {
        best = fastest(d, p, plans, count, at);
        if (best < 0) {
            snprintf(why, why_size, "no engine that runs");
            return false;
        }
        if (plans[best].name[0]) {
            char stale[sizeof plan->name];
            snprintf(stale, sizeof stale, "%s", known ? known : "");
            known = plan_cache_put(all->cache, key, plans[best].name, stale);
            if (strcmp(known, plans[best].name) &&
                convolution_plan_named(all->handle, graph, known, plan))
                return true;
        }
        plugin_host->note("cuDNN: %s: %s, %d timed", key, plans[best].name, count);
    }
    *plan = static_cast<convolution_plan &&>(plans[best]);
    return true;
}

/* With the bias, few engines are left in F32: whether it is faster to add it in a pass of its own,
 * with any engine. */
static bool apart_is_faster(struct device *d, const struct convolution_problem *p,
                            const struct convolution_plan *fused,
                            const struct convolution_plan *apart, const struct pointers *at,
                            const struct pointers *rest)
{
    struct convolution_plans *all = cuda_of(d)->plans->convolutions;
    const int64_t rows = p->c.n * p->c.oh * p->c.ow;
    char key[300];
    describe_with_limit(p, workspace_limit(), key, sizeof key - 16);
    strcat(key, ": the bias");
    const char *known = plan_cache_get(all->cache, key);
    if (!known && may_time(d)) {
        const float together =
            time_of(d, -1, [&] { return execute(d, fused, at) == CUDNN_STATUS_SUCCESS; });
        const float in_turn = time_of(d, together, [&] {
            const bool can = execute(d, apart, rest) == CUDNN_STATUS_SUCCESS;
            bias_activate(d, p->c.type, rows, p->c.co, (const float *)at->bias, ACTIVATION_NONE,
                          (void *)at->y);
            return can;
        });
        const bool faster = in_turn >= 0 && (together < 0 || in_turn < together);
        known = plan_cache_put(all->cache, key, faster ? "apart" : "fused", NULL);
    }
    return known && !strcmp(known, "apart");
}

/* With passes of their own for the bias and for what the output is added to, if need be. */
static cudnnStatus_t run_choice(struct device *d, const struct convolution_problem *p,
                                const struct convolution_choice *choice, const struct pointers *at)
{
    const struct convolution *c = &p->c;
    const bool to_data = p->direction == CONVOLUTION_BACKWARD_DATA;
    const int64_t rows = c->n * c->oh * c->ow;
    struct pointers used = *at;
    const scratch sum(d, choice->sum_apart ? sum_bytes(p) : 1);
    if (choice->bias_apart)
        used.bias = nullptr;
    if (choice->sum_apart)
        used.residual = nullptr;
    if (choice->sum_apart && to_data)
        used.x = sum.data;
    const cudnnStatus_t status = execute(d, &choice->plan, &used);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (choice->bias_apart && at->bias)
        bias_activate(d, c->type, rows, c->co, vector_of(at->bias_tensor), ACTIVATION_NONE,
                      (void *)at->y);
    if (choice->sum_apart && to_data)
        add_to(d, c->type, c->n * c->h * c->w * c->ci, sum.data, (void *)at->x);
    else if (choice->sum_apart)
        add_to(d, c->type, rows * c->co, at->residual, (void *)at->y);
    return status;
}

/* Of forward and backward_data. */
static void multiply_patches(struct device *d, const struct convolution_problem *p,
                             const struct pointers *at)
{
    if (p->direction == CONVOLUTION_FORWARD)
        patch_product_forward(d, &p->c, at->x, at->weight, at->bias_tensor, at->residual,
                              (void *)at->y);
    else
        patch_product_backward_data(d, &p->c, at->y, at->weight, (void *)at->x, p->adds);
}

/* Whether products of patches are faster than this choice. */
static bool patches_are_faster(struct device *d, const struct convolution_problem *p,
                               const struct convolution_choice *choice, const struct pointers *at)
{
    struct convolution_plans *all = cuda_of(d)->plans->convolutions;
    if (p->direction == CONVOLUTION_BACKWARD_WEIGHT || !patch_products_suit(&p->c))
        return false;
    char key[300];
    describe_with_limit(p, workspace_limit(), key, sizeof key - 16);
    strcat(key, ": patches");
    const char *known = plan_cache_get(all->cache, key);
    if (!known && may_time(d)) {
        const scratch sum(d, sum_bytes(p));
        struct pointers timed = *at;
        if (p->adds && p->direction == CONVOLUTION_BACKWARD_DATA)
            timed.x = sum.data;
        const float plan = time_of(
            d, -1, [&] { return run_choice(d, p, choice, &timed) == CUDNN_STATUS_SUCCESS; });
        const float patches = time_of(d, plan, [&] {
            multiply_patches(d, p, &timed);
            return true;
        });
        const bool faster = patches >= 0 && (plan < 0 || patches < plan);
        known = plan_cache_put(all->cache, key, faster ? "faster" : "slower", NULL);
        plugin_host->note("cuDNN: %s %s", key, known);
    }
    return known && !strcmp(known, "faster");
}

/* Sets c's plan, or ends the program. */
static void choose_plans(struct device *d, const struct convolution_problem *p,
                         const struct pointers *at, struct convolution_choice *c)
{
    char what[256], why[512] = "";
    struct convolution_plan apart;
    struct convolution_problem without = *p;
    struct pointers rest = *at;
    without.bias = without.adds = 0;
    rest.bias = rest.residual = nullptr;
    const bool fused = choose_plan(d, p, at, &c->plan, why, sizeof why);
    if (fused && (p->adds || !p->bias || p->c.type != DTYPE_F32))
        return;
    const bool can =
        (p->bias || p->adds) && choose_plan(d, &without, &rest, &apart, why, sizeof why);
    if (can && (!fused || apart_is_faster(d, p, &c->plan, &apart, at, &rest))) {
        c->bias_apart = p->bias;
        c->sum_apart = p->adds;
        c->plan = static_cast<convolution_plan &&>(apart);
    } else if (!fused) {
        describe(p, what, sizeof what);
        plugin_host->die("cuDNN: %s: %s", what, why);
    }
}

static struct convolution_choice *choose(struct device *d, const struct convolution_problem *p,
                                         const struct pointers *at)
{
    struct convolution_plans *all = cuda_of(d)->plans->convolutions;
    struct convolution_choice **slot = &all->slots[plan_slot(p, sizeof *p)];
    for (struct convolution_choice *c = *slot; c; c = c->next)
        if (!memcmp(&c->key, p, sizeof *p))
            return c;
    struct convolution_choice *c = new convolution_choice();
    c->key = *p;
    choose_plans(d, p, at, c);
    c->patches = patches_are_faster(d, p, c, at);
    c->next = *slot;
    return *slot = c;
}

static struct convolution_problem problem_of(const struct device *d, const struct convolution *c,
                                             enum convolution_direction direction,
                                             const struct pointers *at, bool adds)
{
    struct convolution_problem p;
    memset(&p, 0, sizeof p); /* compared as bytes, including padding */
    p.c.type = c->type;
    p.c.n = c->n, p.c.h = c->h, p.c.w = c->w, p.c.ci = c->ci;
    p.c.oh = c->oh, p.c.ow = c->ow, p.c.co = c->co;
    p.c.kh = c->kh, p.c.kw = c->kw;
    p.c.stride = c->stride, p.c.pad_begin = c->pad_begin, p.c.pad_end = c->pad_end;
    p.direction = direction;
    p.bias = at->bias != nullptr;
    p.adds = adds;
    p.tf32 = d->tf32 && c->type == DTYPE_F32;
    p.alignment = 16;
    for (const void *pointer : {at->x, at->weight, at->y, at->residual})
        if (pointer && address_alignment(pointer) < p.alignment)
            p.alignment = address_alignment(pointer);
    return p;
}

/* The output of backward_data is added to if adds. */
static void run(struct device *d, const struct convolution *c, enum convolution_direction direction,
                const struct pointers *at, bool adds)
{
    const struct convolution_problem p = problem_of(d, c, direction, at, adds);
    const struct convolution_choice *choice = choose(d, &p, at);
    if (choice->patches) {
        multiply_patches(d, &p, at);
        return;
    }
    const cudnnStatus_t status = run_choice(d, &p, choice, at);
    if (status != CUDNN_STATUS_SUCCESS) {
        char what[256], why[512];
        describe(&p, what, sizeof what);
        plugin_host->die("cuDNN: %s: %s: %s", what, choice->plan.name,
                         reason(status, why, sizeof why));
    }
}

void convolution_forward(struct device *d, const struct convolution *c, const void *x,
                         const void *weight, const struct tensor *bias, const void *residual,
                         void *y)
{
    const library_bias converted(d, bias, c->type, CONVOLUTION_BIAS_ALIGNMENT);
    const struct pointers at = {x, weight, y, converted.data, residual, bias};
    run(d, c, CONVOLUTION_FORWARD, &at, residual);
}

void convolution_backward_data(struct device *d, const struct convolution *c, const void *dy,
                               const void *weight, void *dx, bool adds)
{
    const struct pointers at = {dx, weight, dy, nullptr, nullptr, nullptr};
    run(d, c, CONVOLUTION_BACKWARD_DATA, &at, adds);
}

void convolution_backward_weight(struct device *d, const struct convolution *c, const void *x,
                                 const void *dy, void *dweight)
{
    const struct pointers at = {x, dweight, dy, nullptr, nullptr, nullptr};
    run(d, c, CONVOLUTION_BACKWARD_WEIGHT, &at, false);
}
