/* Recording and backward passes: where gradients flow, what is kept and for how long, and chains of
 * ops compared with finite differences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "kernels/record.h"
#include "kernels/tape.h"
#include "tests/support/synth.h"
#include "tests/support/tap.h"

/* Tensors by name, created on first use, with the same values on every device. */
enum { VARIABLES_MAX = 40 };
struct variable {
    const char *name;
    struct tensor *value, *gradient; /* gradient: of a parameter */
};
struct model {
    struct device *device;
    struct variable variables[VARIABLES_MAX];
    int count;
};

static void model_open(struct model *m, const char *device)
{
    struct error e;
    *m = (struct model){0};
    if (device_open(&m->device, device, &e) != 0)
        die("cannot open device '%s': %s", device, e.text);
}

static void model_release_variables(struct model *m)
{
    for (int i = 0; i < m->count; i++) {
        tensor_release(m->variables[i].value);
        tensor_release(m->variables[i].gradient);
    }
    m->count = 0;
}

static void model_close(struct model *m)
{
    model_release_variables(m);
    device_close(m->device);
}

/* Weights have variance 1 / fan_in; everything else has 1. */
static struct variable *variable(struct model *m, const char *name, int ndim, const int64_t *shape)
{
    for (int i = 0; i < m->count; i++)
        if (!strcmp(m->variables[i].name, name))
            return &m->variables[i];
    CHECK(m->count < VARIABLES_MAX);
    struct variable *v = &m->variables[m->count++];
    *v = (struct variable){name, tensor_new(m->device, DTYPE_F32, ndim, shape), NULL};
    size_t n = (size_t)tensor_count(v->value);
    float *values = xmalloc(n * sizeof(float));
    if (strstr(name, "weight") && ndim > 1)
        synth_weight(values, name, ndim, shape, 1);
    else
        synth_data(values, n, name, 1, SYNTH_DATA_SCALE);
    m->device->backend->upload(m->device, v->value->data, values, n * sizeof(float));
    free(values);
    return v;
}

static struct tensor *constant(struct model *m, const char *name, int ndim, const int64_t *shape)
{
    return variable(m, name, ndim, shape)->value;
}

static struct tensor *input(struct model *m, const char *name, int ndim, const int64_t *shape)
{
    struct tensor *x = constant(m, name, ndim, shape);
    tensor_require_gradient(x);
    return x;
}

static void set_to_zero(struct tensor *t)
{
    t->device->backend->fill(t->device, &(struct fill_args){tensor_count(t), t->data, 0});
}

static struct tensor *parameter(struct model *m, const char *name, int ndim, const int64_t *shape)
{
    struct variable *v = variable(m, name, ndim, shape);
    if (!v->gradient) {
        v->gradient = tensor_new(m->device, DTYPE_F32, ndim, shape);
        set_to_zero(v->gradient);
        tensor_set_parameter(v->value, v->gradient);
    }
    return v->value;
}

static struct tensor *gradient_of(const struct variable *v)
{
    return v->gradient ? v->gradient : v->value->gradient ? v->value->gradient->value : NULL;
}

typedef struct tensor *chain_function(struct tape *t, struct model *m);

/* Ops that some chain below has recorded, so that their gradients were compared. cast is recorded
 * only on devices that do not compute in F32. */
static struct {
    const char *name;
    void (*backward)(struct tape *, struct record *, struct tensor *);
    bool recorded;
} differentiable[] = {
#define OP_BACKWARD(name) {#name, backward_##name, false},
#include "kernels/ops.def"
    {"add", backward_add, false},
    {"linear_combination", backward_linear_combination, false},
};
#define DIFFERENTIABLE (sizeof differentiable / sizeof *differentiable)

static void note_recorded(const struct tape *t)
{
    for (int i = 0; i < t->count; i++)
        for (size_t k = 0; k < DIFFERENTIABLE; k++)
            differentiable[k].recorded |= t->records[i].backward == differentiable[k].backward;
}

static void check_coverage(void)
{
    for (size_t k = 0; k < DIFFERENTIABLE; k++)
        tap_ok(differentiable[k].recorded, "%s is recorded, and its gradient compared",
               differentiable[k].name);
}

/* Runs forward, and backward from a random dy. */
static void run(struct model *m, chain_function *f)
{
    struct tape t;
    tape_init(&t, m->device);
    t.recording = true;
    struct tensor *y = f(&t, m);
    note_recorded(&t);
    struct tensor *dy = constant(m, "dy", y->ndim, y->shape);
    CHECK(tensor_same_shape(y, dy));
    tape_backward(&t, y, dy);
    CHECK(t.recording && t.count == 0);
    tensor_release(y);
    tape_release(&t);
}

static double loss(struct model *m, chain_function *f)
{
    struct tape t;
    tape_init(&t, m->device);
    struct tensor *y = f(&t, m);
    float *values = tensor_to_host(y), *dy = tensor_to_host(constant(m, "dy", y->ndim, y->shape));
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(y); i++)
        sum += (double)dy[i] * values[i];
    free(values);
    free(dy);
    tensor_release(y);
    tape_release(&t);
    return sum;
}

/* d loss / d step along u, from steps of h and 2 h on both sides (Richardson): the steps are long,
 * so that float keeps enough digits. */
static double slope(struct model *m, chain_function *f, struct tensor *x, const float *u, double h)
{
    float *values = tensor_to_host(x), *moved = x->data;
    double losses[4];
    const double steps[4] = {h, -h, 2 * h, -2 * h};
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < tensor_count(x); i++)
            moved[i] = (float)(values[i] + steps[k] * u[i]);
        losses[k] = loss(m, f);
    }
    memcpy(moved, values, (size_t)tensor_count(x) * sizeof(float));
    free(values);
    return (4 * (losses[0] - losses[1]) / (2 * h) - (losses[2] - losses[3]) / (4 * h)) / 3;
}

static bool agrees(struct model *m, struct model *ref, chain_function *f, int index)
{
    const struct variable *v = &m->variables[index];
    struct tensor *x = ref->variables[index].value;
    size_t n = (size_t)tensor_count(x);
    float *g = tensor_to_host(gradient_of(v)), *u = xmalloc(n * sizeof(float)),
          *values = tensor_to_host(x);
    double share = 0, terms = 0, size = 0;
    synth_data(u, n, v->name, 99, SYNTH_DATA_SCALE);
    for (size_t i = 0; i < n; i++) {
        share += (double)g[i] * u[i];
        terms += (double)g[i] * u[i] * g[i] * u[i];
        size += (double)values[i] * values[i] / (double)n;
    }
    double differences = slope(ref, f, x, u, 0.01 * sqrt(size)), error = fabs(share - differences);
    bool passed = terms > 0 && error <= 2e-3 * sqrt(terms);
    if (!passed)
        tap_diag("%s: the gradient gives %g, finite differences %g +- %g", v->name, share,
                 differences, 2e-3 * sqrt(terms));
    free(g);
    free(u);
    free(values);
    return passed;
}

static void check_against_differences(const char *device, const char *what, chain_function *f)
{
    struct model m, ref;
    int wanted = 0, passed = 0;
    model_open(&m, device);
    model_open(&ref, "ref");
    run(&m, f);
    run(&ref, f); /* creates the same variables */
    for (int i = 0; i < m.count; i++) {
        if (!m.variables[i].value->gradient)
            continue;
        wanted++;
        passed += gradient_of(&m.variables[i]) && agrees(&m, &ref, f, i);
    }
    tap_ok(wanted > 4 && passed == wanted,
           "%s on %s: %d of %d gradients agree with finite differences", what, device, passed,
           wanted);
    model_release_variables(&m);
    tap_ok(device_memory(m.device).in_use == 0, "%s on %s: all memory is released", what, device);
    model_close(&m);
    model_close(&ref);
}

static struct tensor *conv_block(struct tape *t, struct model *m, struct tensor *x,
                                 struct tensor *cond)
{
    struct tensor *h = conv2d(t, x, parameter(m, "conv.weight", DIMS(8, 20, 3, 3)),
                              parameter(m, "conv.bias", DIMS(8)), 1, 1, 1);
    struct tensor *modulation =
        linear(t, cond, parameter(m, "modulation.weight", DIMS(16, 12)), NULL, ACTIVATION_NONE);
    tensor_replace(&h, group_norm(t, h, 1, 1e-5f, NULL, NULL, modulation, 0, ACTIVATION_SILU));
    tensor_release(modulation);
    tensor_replace(&h,
                   conv2d(t, h, parameter(m, "conv2.weight", DIMS(64, 8, 3, 3)), NULL, 1, 1, 1));
    struct tensor *skip =
        linear(t, x, parameter(m, "skip.weight", DIMS(64, 20, 1, 1)), NULL, ACTIVATION_NONE);
    tensor_replace(&h, add(t, h, skip));
    tensor_release(skip);
    return h;
}

static struct tensor *attention_block(struct tape *t, struct model *m, struct tensor *x)
{
    struct tensor *h = group_norm(t, x, 2, 1e-5f, parameter(m, "norm.gamma", DIMS(64)),
                                  parameter(m, "norm.beta", DIMS(64)), NULL, 0, ACTIVATION_NONE);
    tensor_replace(&h, linear(t, h, parameter(m, "qkv.weight", DIMS(192, 64, 1, 1)),
                              parameter(m, "qkv.bias", DIMS(192)), ACTIVATION_NONE));
    tensor_replace(&h, attention_qkv(t, h, 4));
    tensor_replace(&h, linear(t, h, parameter(m, "out.weight", DIMS(64, 64, 1, 1)),
                              parameter(m, "out.bias", DIMS(64)), ACTIVATION_NONE));
    tensor_replace(&h, add(t, h, x));
    return h;
}

/* Built like the U-Net, with activations suitable for finite differences. */
static struct tensor *unet(struct tape *t, struct model *m)
{
    struct tensor *time = constant(m, "time", DIMS(2));
    struct tensor *features = fourier_features(t, time, constant(m, "fourier", DIMS(8, 1)));
    struct tensor *cond = l2_normalize(t, input(m, "embed", DIMS(2, 10)), 1e-12f, sqrtf(10));
    tensor_replace(&cond, concat(t, cond, features));
    tensor_replace(&cond, linear(t, cond, parameter(m, "mapping.weight", DIMS(12, 26)),
                                 parameter(m, "mapping.bias", DIMS(12)), ACTIVATION_GELU));
    struct tensor *x = to_nhwc(t, input(m, "x", DIMS(2, 4, 4, 4)), NULL, NULL);
    tensor_replace(&x, append_planes(t, x, features));
    tensor_replace(&x, conv_block(t, m, x, cond));
    struct tensor *inner = avg_pool2x2(t, x);
    tensor_replace(&inner, attention_block(t, m, inner));
    tensor_replace(&x, upsample_bilinear2x(t, inner, x));
    tensor_replace(&x, conv2d(t, x, parameter(m, "last.weight", DIMS(4, 128, 3, 3)),
                              parameter(m, "last.bias", DIMS(4)), 1, 1, 1));
    tensor_replace(&x, to_nchw(t, x));
    tensor_release(inner);
    tensor_release(cond);
    tensor_release(features);
    return x;
}

/* Built like CLOOB's towers: tokens, then patches. */
static struct tensor *towers(struct tape *t, struct model *m)
{
    enum { S = 5, C = 16 };
    static const int32_t ids[2][S] = {{0, 3, 1, 3, 2}, {6, 6, 0, 1, 5}};
    static const int32_t padding[2][S + 4 + 1] = {{0, 0, 0, 0, 0, 0, 1, 0, 0, 1}, {0}};
    static const float scale[3] = {2, 3, 0.5f}, shift[3] = {1, 0, -1};
    struct tensor *tokens = tensor_new(m->device, DTYPE_I32, DIMS(2, S));
    struct tensor *uniform = tensor_new(m->device, DTYPE_I32, DIMS(2, S + 4 + 1));
    m->device->backend->upload(m->device, tokens->data, ids, sizeof ids);
    m->device->backend->upload(m->device, uniform->data, padding, sizeof padding);
    struct tensor *text = embedding(t, tokens, parameter(m, "table.weight", DIMS(7, C)));
    tensor_replace(&text, reshape(t, text, DIMS(2, S * C)));
    struct tensor *patches = to_nhwc(t, input(m, "pixels", DIMS(2, 3, 8, 8)), scale, shift);
    tensor_replace(&patches, conv2d(t, patches, parameter(m, "patch.weight", DIMS(C, 3, 4, 4)),
                                    NULL, 4, 0, 0));
    tensor_replace(&patches, reshape(t, patches, DIMS(2, 4 * C)));
    struct tensor *x = concat(t, text, patches);
    tensor_replace(&x, reshape(t, x, DIMS(2, S + 4, C)));
    tensor_replace(&x, prepend_row(t, x, parameter(m, "class", DIMS(C))));
    tensor_replace(&x, add_rows(t, x, parameter(m, "positions", DIMS(S + 4 + 1, C))));
    struct tensor *h = layer_norm(t, x, 1e-5f, parameter(m, "norm.gamma", DIMS(C)),
                                  parameter(m, "norm.beta", DIMS(C)));
    struct tensor *q = linear(t, h, parameter(m, "q.weight", DIMS(C, C)), NULL, ACTIVATION_NONE);
    struct tensor *k = linear(t, h, parameter(m, "k.weight", DIMS(C, C)), NULL, ACTIVATION_NONE);
    struct tensor *v = linear(t, h, parameter(m, "v.weight", DIMS(C, C)),
                              parameter(m, "v.bias", DIMS(C)), ACTIVATION_NONE);
    tensor_replace(&h, attention(t, q, k, v, 2, uniform));
    tensor_replace(&x, add(t, x, h));
    tensor_replace(&h, linear(t, x, parameter(m, "mlp.weight", DIMS(2 * C, C)),
                              parameter(m, "mlp.bias", DIMS(2 * C)), ACTIVATION_GELU));
    tensor_replace(&h, take_row(t, h, 0));
    tensor_replace(&h, l2_normalize(t, h, 1e-12f, 1));
    tensor_release(tokens);
    tensor_release(uniform);
    tensor_release(text);
    tensor_release(patches);
    tensor_release(x);
    tensor_release(q);
    tensor_release(k);
    tensor_release(v);
    return h;
}

/* Built like the autoencoder. */
static struct tensor *autoencoder(struct tape *t, struct model *m)
{
    struct tensor *x = input(m, "x", DIMS(1, 6, 6, 8));
    struct tensor *h = group_norm(t, x, 4, 1e-6f, parameter(m, "norm.gamma", DIMS(8)),
                                  parameter(m, "norm.beta", DIMS(8)), NULL, 0, ACTIVATION_SILU);
    tensor_replace(&h, conv2d(t, h, parameter(m, "down.weight", DIMS(8, 8, 3, 3)),
                              parameter(m, "down.bias", DIMS(8)), 2, 0, 1));
    tensor_replace(&h, activation(t, h, ACTIVATION_SILU));
    tensor_replace(&h, upsample_nearest2x(t, h));
    tensor_replace(&h,
                   linear_combination(t, 3, (struct tensor *[]){h, x, h}, (float[]){0.5f, -2, 1}));
    tensor_replace(&h, conv2d_add(t, x, h, parameter(m, "residual.weight", DIMS(8, 8, 3, 3)),
                                  parameter(m, "residual.bias", DIMS(8)), 1, 1, 1));
    tensor_replace(&h, conv2d(t, h, parameter(m, "last.weight", DIMS(3, 8, 3, 3)), NULL, 1, 1, 1));
    return h;
}

/* A distance of features as in LPIPS, from fixed ones. */
static struct tensor *distance(struct tape *t, struct model *m)
{
    struct tensor *x = input(m, "x", DIMS(2, 8, 8, 4));
    struct tensor *apart = constant(m, "apart", DIMS(2, 8, 8, 4)); /* keeps maxima what they are */
    struct tensor *h = linear_combination(t, 2, (struct tensor *[]){x, apart}, (float[]){1, 30});
    tensor_replace(&h, max_pool2x2(t, h));
    tensor_replace(&h, conv2d(t, h, parameter(m, "conv.weight", DIMS(8, 4, 3, 3)),
                              parameter(m, "conv.bias", DIMS(8)), 1, 1, 1));
    tensor_replace(&h, activation(t, h, ACTIVATION_SILU));
    tensor_replace(&h, conv2d(t, h, parameter(m, "conv2.weight", DIMS(8, 8, 3, 3)),
                              parameter(m, "conv2.bias", DIMS(8)), 1, 1, 1));
    tensor_replace(&h, activation(t, h, ACTIVATION_SILU));
    tensor_replace(&h, feature_distance(t, constant(m, "features", DIMS(2, 4, 4, 8)), h,
                                        constant(m, "lin", DIMS(8)), 1e-10f));
    return h;
}

static bool is_combination(const struct tensor *g, double a, const float *x, double b,
                           const float *y)
{
    if (!g)
        return false;
    float *values = tensor_to_host(g);
    int wrong = 0;
    for (int64_t i = 0; i < tensor_count(g); i++)
        wrong += !(values[i] == (float)(a * x[i] + b * y[i]));
    free(values);
    return wrong == 0;
}

static struct tensor *added_to_itself(struct tape *t, struct model *m)
{
    struct tensor *x = input(m, "x", DIMS(2, 3));
    return add(t, x, x);
}

static struct tensor *combined(struct tape *t, struct model *m)
{
    struct tensor *x = input(m, "x", DIMS(2, 3)), *y = input(m, "y", DIMS(2, 3));
    struct tensor *z = constant(m, "z", DIMS(2, 3));
    return linear_combination(t, 4, (struct tensor *[]){x, y, z, x}, (float[]){0.5f, -2, 3, 0.25f});
}

static struct tensor *concatenated(struct tape *t, struct model *m)
{
    struct tensor *x = input(m, "x", DIMS(1, 3));
    return concat(t, x, x);
}

static struct tensor *reshaped(struct tape *t, struct model *m)
{
    struct tensor *x = input(m, "x", DIMS(2, 3));
    struct tensor *y = reshape(t, x, DIMS(6));
    tensor_replace(&y, reshape(t, y, DIMS(1, 3, 2)));
    return y;
}

static void check_flow(const char *device)
{
    struct model m;
    model_open(&m, device);
    run(&m, added_to_itself);
    float *dy = tensor_to_host(constant(&m, "dy", DIMS(2, 3)));
    tap_ok(is_combination(gradient_of(variable(&m, "x", DIMS(2, 3))), 2, dy, 0, dy),
           "a tensor used twice gets both gradients, on %s", device);
    run(&m, added_to_itself);
    tap_ok(is_combination(gradient_of(variable(&m, "x", DIMS(2, 3))), 4, dy, 0, dy),
           "another pass adds to an input's gradient, on %s", device);
    model_release_variables(&m);

    run(&m, combined);
    struct tensor *z = constant(&m, "z", DIMS(2, 3));
    tap_ok(is_combination(gradient_of(variable(&m, "x", DIMS(2, 3))), 0.75, dy, 0, dy) &&
               is_combination(gradient_of(variable(&m, "y", DIMS(2, 3))), -2, dy, 0, dy) &&
               !z->gradient,
           "a linear combination scales each gradient, on %s", device);
    model_release_variables(&m);

    run(&m, reshaped);
    struct tensor *g = gradient_of(variable(&m, "x", DIMS(2, 3)));
    tap_ok(is_combination(g, 1, dy, 0, dy) && g->ndim == 2 && g->shape[0] == 2 && g->shape[1] == 3,
           "reshapes restore the gradient's shape, on %s", device);
    model_release_variables(&m);

    run(&m, concatenated);
    float *both = tensor_to_host(constant(&m, "dy", DIMS(1, 6)));
    tap_ok(is_combination(gradient_of(variable(&m, "x", DIMS(1, 3))), 1, both, 1, both + 3),
           "a tensor concatenated with itself gets the sum, on %s", device);
    free(both);
    free(dy);
    model_close(&m);
}

/* What is recorded depends on the requested gradients. */
static void check_records(const char *device)
{
    struct model m;
    struct tape t;
    model_open(&m, device);
    tape_init(&t, m.device);
    struct tensor *x = constant(&m, "x", DIMS(2, 3)), *w = constant(&m, "w", DIMS(4, 3));
    t.recording = true;
    struct tensor *y = linear(&t, x, w, NULL, ACTIVATION_RELU);
    tensor_replace(&y, add(&t, y, y));
    tap_ok(t.count == 0 && !y->gradient, "no record if no gradient is requested, on %s", device);

    parameter(&m, "w", DIMS(4, 3));
    t.recording = false;
    tensor_replace(&y, linear(&t, x, w, NULL, ACTIVATION_RELU));
    tap_ok(t.count == 0 && !y->gradient, "no record if the tape does not record, on %s", device);

    t.recording = true;
    tensor_replace(&y, linear(&t, x, w, NULL, ACTIVATION_GELU));
    struct tensor *unused = linear(&t, x, parameter(&m, "v", DIMS(5, 3)), NULL, ACTIVATION_NONE);
    struct tensor *dy = constant(&m, "dy", DIMS(2, 4));
    tap_ok(t.count == 3 && y->gradient, "a parameter's ops are recorded, on %s", device);
    tape_backward(&t, y, dy);
    float *dw = tensor_to_host(gradient_of(variable(&m, "w", DIMS(4, 3))));
    float *dv = tensor_to_host(gradient_of(variable(&m, "v", DIMS(5, 3))));
    bool some = false, none = true;
    for (int i = 0; i < 12; i++)
        some |= dw[i] != 0;
    for (int i = 0; i < 15; i++)
        none &= dv[i] == 0;
    tap_ok(some && none && !x->gradient && t.count == 0 && t.recording,
           "gradients flow only to parameters that were used, on %s", device);
    free(dw);
    free(dv);
    tensor_release(y);
    tensor_release(unused);

    /* A tape released without a backward pass. */
    for (int i = 0; i < 5; i++)
        tensor_release(linear(&t, x, w, NULL, ACTIVATION_GELU));
    size_t recorded = device_memory(m.device).in_use;
    tape_release(&t);
    size_t released = device_memory(m.device).in_use;
    model_release_variables(&m);
    tap_ok(recorded > released && device_memory(m.device).in_use == 0,
           "dropped records release their memory, on %s", device);
    model_close(&m);
}

static void check_accumulation(const char *device, const char *what, chain_function *f)
{
    struct model once, twice;
    model_open(&once, device);
    model_open(&twice, device);
    run(&once, f);
    run(&twice, f);
    run(&twice, f);
    double worst = 0;
    int parameters = 0;
    for (int i = 0; i < once.count; i++) {
        if (!once.variables[i].gradient)
            continue;
        float *one = tensor_to_host(once.variables[i].gradient),
              *two = tensor_to_host(twice.variables[i].gradient);
        size_t n = (size_t)tensor_count(once.variables[i].value);
        for (size_t j = 0; j < n; j++)
            one[j] *= 2;
        worst = fmax(worst, relative_l2(two, one, n));
        parameters++;
        free(one);
        free(two);
    }
    tap_ok(parameters > 2 && worst <= 1e-6,
           "%s on %s: two passes give twice the gradient of one (%.2g)", what, device, worst);
    model_close(&once);
    model_close(&twice);
}

/* One residual block with every kind of parameter, run plainly, recomputed, or recomputed within a
 * recomputed function. */
enum { PLAIN, RECOMPUTED, NESTED };
struct block {
    struct model *m;
    int how;
};

static struct tensor *half(struct tape *t, const void *context, struct tensor *x,
                           struct tensor *extra)
{
    struct model *m = ((const struct block *)context)->m;
    struct tensor *h = group_norm(t, x, 2, 1e-5f, parameter(m, "gamma", DIMS(8)),
                                  parameter(m, "beta", DIMS(8)), NULL, 0, ACTIVATION_RELU);
    tensor_replace(&h, add(t, h, x));
    return h;
}

static struct tensor *block(struct tape *t, const void *context, struct tensor *x,
                            struct tensor *cond)
{
    const struct block *b = context;
    struct tensor *modulation =
        linear(t, cond, parameter(b->m, "modulation.weight", DIMS(16, 6)),
               parameter(b->m, "modulation.bias", DIMS(16)), ACTIVATION_NONE);
    struct tensor *h = conv2d(t, x, parameter(b->m, "conv.weight", DIMS(8, 8, 3, 3)),
                              parameter(b->m, "conv.bias", DIMS(8)), 1, 1, 1);
    tensor_replace(&h, group_norm(t, h, 1, 1e-5f, NULL, NULL, modulation, 0, ACTIVATION_RELU));
    tensor_replace(&h,
                   b->how == NESTED ? tape_recompute(t, half, b, h, NULL) : half(t, b, h, NULL));
    tensor_replace(&h, add(t, h, x));
    tensor_release(modulation);
    return h;
}

static struct tensor *blocks(struct tape *t, const struct block *b)
{
    struct model *m = b->m;
    struct tensor *cond = linear(t, input(m, "embed", DIMS(2, 5)),
                                 parameter(m, "mapping.weight", DIMS(6, 5)), NULL, ACTIVATION_RELU);
    struct tensor *h = activation(t, input(m, "x", DIMS(2, 16, 16, 8)), ACTIVATION_SILU);
    for (int i = 0; i < 4; i++) /* the same parameters repeatedly */
        tensor_replace(&h, b->how == PLAIN ? block(t, b, h, cond)
                                           : tape_recompute(t, block, b, h, cond));
    tensor_replace(&h, to_nchw(t, h));
    tensor_release(cond);
    return h;
}

struct outcome {
    struct model model;
    size_t held; /* by the tape, before the backward pass */
};

static void run_blocks(struct outcome *o, const char *device, int how)
{
    struct model *m = &o->model;
    struct tape t;
    model_open(m, device);
    tape_init(&t, m->device);
    t.recording = true;
    struct block b = {m, how};
    struct tensor *y = blocks(&t, &b);
    struct tensor *dy = constant(m, "dy", y->ndim, y->shape);
    o->held = device_memory(m->device).in_use;
    tape_backward(&t, y, dy);
    tensor_release(y);
    tape_release(&t);
}

static bool same_gradients(const struct model *a, const struct model *b)
{
    int compared = 0, same = 0;
    for (int i = 0; i < a->count; i++) {
        const struct variable *v = &a->variables[i];
        for (int j = 0; j < b->count; j++) {
            if (strcmp(v->name, b->variables[j].name) || !v->value->gradient)
                continue;
            float *x = tensor_to_host(gradient_of(v)),
                  *y = tensor_to_host(gradient_of(&b->variables[j]));
            compared++;
            same += !memcmp(x, y, (size_t)tensor_count(v->value) * sizeof(float));
            free(x);
            free(y);
        }
    }
    return compared == 9 && same == compared;
}

static void check_recompute(const char *device)
{
    struct outcome plain, recomputed, nested;
    run_blocks(&plain, device, PLAIN);
    run_blocks(&recomputed, device, RECOMPUTED);
    run_blocks(&nested, device, NESTED);
    tap_ok(same_gradients(&plain.model, &recomputed.model),
           "recomputed blocks give bit-identical gradients, on %s", device);
    tap_ok(same_gradients(&plain.model, &nested.model), "nested recomputation does, too, on %s",
           device);
    tap_ok(recomputed.held < plain.held / 2,
           "recomputed blocks hold less memory, on %s: %zu of %zu", device, recomputed.held,
           plain.held);
    struct outcome *all[] = {&plain, &recomputed, &nested};
    for (int i = 0; i < 3; i++) {
        model_release_variables(&all[i]->model);
        tap_ok(device_memory(all[i]->model.device).in_use == 0, "and release all of it, on %s",
               device);
        model_close(&all[i]->model);
    }
}

int main(void)
{
    static const char *const devices[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        check_flow(devices[i]);
        check_records(devices[i]);
        check_recompute(devices[i]);
        check_against_differences(devices[i], "a tiny U-Net", unet);
        check_against_differences(devices[i], "tiny towers", towers);
        check_against_differences(devices[i], "a tiny autoencoder", autoencoder);
        check_against_differences(devices[i], "a distance of features", distance);
        check_accumulation(devices[i], "a tiny U-Net", unet);
        check_accumulation(devices[i], "tiny towers", towers);
    }
    check_coverage();
    return tap_done();
}
