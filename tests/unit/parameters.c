/* The arrays of parameters: their layout, initial values, gradients, and those made from weights.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/patch_discriminator.h"
#include "common/nets/unet.h"
#include "common/train/parameters.h"
#include "tests/support/emulated.h"
#include "tests/support/synth_nets.h"
#include "tests/support/tap.h"

static struct device *device;
static struct architecture architecture;

static struct tensor *constant(int ndim, const int64_t *shape, float value)
{
    struct tensor *t = tensor_new(device, DTYPE_F32, ndim, shape);
    struct fill_args args = {tensor_count(t), t->data, value};
    device->backend->fill(device, &args);
    return t;
}

static double deviation(const float *x, int64_t n)
{
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean) / (double)n;
    return sqrt(squares);
}

static double largest(const float *x, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

static const float *values(const struct parameters *p, const char *name, int64_t *n)
{
    const struct parameter *t = parameters_find(p, name);
    CHECK(t);
    *n = t->count;
    return parameters_read(p, ARRAY_WEIGHTS, t->offset, t->count, NULL);
}

static bool is_modulation(const struct parameter *t)
{
    return strstr(t->name, ".layer.weight") != NULL;
}

static void layout(const struct parameters *p)
{
    bool aligned = true, sorted = true, apart = true, stacked = true;
    int64_t end = 0, numbers = 0;
    for (int i = 0; i < p->count; i++) {
        const struct parameter *t = &p->tensors[i];
        aligned &= t->offset % 16 == 0;
        apart &= t->offset >= end;
        end = t->offset + t->count;
        sorted &= t->trained == (i < p->trained_count);
        const struct parameter *before = i > 0 ? &p->tensors[i - 1] : NULL;
        if (i > 0 && i != p->trained_count && is_modulation(before) == is_modulation(t))
            sorted &= strcmp(before->name, t->name) < 0;
        if (is_modulation(t))
            stacked &=
                !before || (is_modulation(before) && t->offset == before->offset + before->count);
        numbers += t->trained ? t->count : 0;
    }
    tap_ok(aligned && apart && end <= p->elements,
           "tensors do not overlap and are aligned to 64 bytes");
    tap_ok(sorted && p->count == p->trained_count + 2,
           "trained tensors come first, sorted by name");
    tap_ok(p->decayed_elements == p->trained_elements, "weight decay applies to all of a U-Net");
    tap_ok(stacked, "modulations come before all others, without gaps");
    tap_ok(numbers == p->parameter_count, "%" PRId64 " elements are trained", numbers);
    const struct parameter *fixed = parameters_find(p, "timestep_embed.weight");
    tap_ok(fixed && !fixed->trained && fixed->offset >= p->trained_elements,
           "Fourier weights follow the trained elements");
    tap_ok(p->scalar_count == 1 && !strcmp(p->scalars[0].name, "autoencoder_scale") &&
               p->scalars[0].value == 2.5f,
           "autoencoder_scale is a scalar beside the weights");
    tap_ok(!parameters_find(p, "net.99.main.0.weight"), "an unknown name is not found");
}

static bool is_hidden_kernel(const struct parameter *t)
{
    bool input = strcmp(t->name, "net.0.main.0.weight") == 0;
    bool output = strcmp(t->name, "net.8.main.4.weight") == 0;
    return !input && !output && t->ndim == 4 && t->shape[2] == 3;
}

static void kernels_first(void)
{
    struct parameters *p = parameters_new(&architecture, NET_UNET, 5, device);
    struct parameters *usual = parameters_new(&architecture, NET_UNET, 5, device);
    parameters_kernels_first(p);
    parameters_place(p, collective_alone(), NULL);
    bool first = true, same = true;
    int64_t elements = 0, end = 0;
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *t = &p->tensors[i];
        bool kernel = is_hidden_kernel(t);
        first &= kernel == (t->offset < p->kernel_elements);
        elements += kernel ? t->count : 0;
        end = kernel && t->offset + t->count > end ? t->offset + t->count : end;
        int64_t n;
        const float *x = values(usual, t->name, &n);
        same &= !memcmp(parameters_read(p, ARRAY_WEIGHTS, t->offset, n, NULL), x,
                        (size_t)n * sizeof *x);
    }
    tap_ok(first && elements > 0 && end == p->kernel_elements && elements == end,
           "kernels of hidden layers come first if asked for");
    tap_ok(same, "all weights move with their tensors");
    tap_ok(usual->kernel_elements == 0, "and only then");
    parameters_free(p);
    parameters_free(usual);
}

static void initialization(struct parameters *p)
{
    int64_t n;
    double gain = sqrt(0.5);
    const float *x = values(p, "net.1.main.0.weight", &n); /* 64 channels, 3x3 */
    double bound = gain / sqrt(64 * 9);
    tap_ok(largest(x, n) <= bound * (1 + 1e-6) && largest(x, n) > bound * 0.99,
           "3x3 weights are within +-sqrt(1/2)/sqrt(fan_in)");
    tap_ok(fabs(deviation(x, n) / (bound / sqrt(3)) - 1) < 0.01, "3x3 weights are uniform");
    x = values(p, "net.1.main.0.bias", &n);
    tap_ok(largest(x, n) <= bound && largest(x, n) > 0.5 * bound,
           "biases have the bound of their weights");
    x = values(p, "mapping.1.main.0.weight", &n);
    bound = gain / sqrt(64);
    tap_ok(largest(x, n) <= bound * (1 + 1e-6) && largest(x, n) > bound * 0.98,
           "linear weights have their bound");
    x = values(p, "net.4.main.2.norm.weight", &n);
    tap_ok(fabs(x[0] - gain) < 1e-7 && x[0] == x[n - 1], "norms start at sqrt(1/2)");
    x = values(p, "net.4.main.2.norm.bias", &n);
    tap_ok(largest(x, n) == 0, "norms' biases start at 0");
    x = values(p, "mapping_timestep_embed.weight", &n);
    tap_ok(fabs(deviation(x, n) - 1) < 0.35 && largest(x, n) > 1.5, "Fourier weights are N(0,1)");

    struct parameters *again = parameters_new(&architecture, NET_UNET, 5, device);
    struct parameters *other = parameters_new(&architecture, NET_UNET, 6, device);
    size_t bytes = (size_t)p->elements * sizeof(float);
    const float *mine = parameters_read(p, ARRAY_WEIGHTS, 0, p->elements, NULL);
    tap_ok(!memcmp(mine, parameters_read(again, ARRAY_WEIGHTS, 0, p->elements, NULL), bytes),
           "the same seed gives the same bits");
    tap_ok(!memcmp(mine, parameters_read(p, ARRAY_EMA, 0, p->elements, NULL), bytes),
           "EMA starts as a copy of the weights");
    tap_ok(largest(parameters_read(p, ARRAY_GRADIENTS, 0, p->trained_elements, NULL),
                   p->trained_elements) == 0,
           "gradients start at zero");
    int64_t m;
    x = values(p, "net.1.main.0.weight", &n);
    const float *y = values(other, "net.1.main.0.weight", &m);
    tap_ok(relative_l2(x, y, (size_t)n) > 1, "another seed gives other weights");
    y = values(p, "net.2.main.0.weight", &m);
    tap_ok(relative_l2(x, y, (size_t)n) > 1, "another name gives other weights");
    parameters_free(again);
    parameters_free(other);

    struct kl_config kl = {
        .base_channels = 32, .multipliers = {1, 1}, .levels = 2, .blocks = 1, .latent_channels = 4};
    struct architecture kl_tensors = {0};
    kl_architecture(&kl_tensors, &kl);
    struct parameters *k = parameters_new(&kl_tensors, NET_KL, 1, device);
    x = values(k, "encoder.down.0.block.0.conv1.weight", &n);
    bound = 1 / sqrt(32 * 9);
    tap_ok(largest(x, n) <= bound * (1 + 1e-6) && largest(x, n) > 0.98 * bound &&
               k->trained_count == k->count,
           "an autoencoder has torch's defaults, and all its tensors are trained");
    parameters_free(k);
    architecture_release(&kl_tensors);

    struct architecture patch_tensors = {0};
    patch_discriminator_architecture(&patch_tensors, 3, 64, 3);
    struct parameters *d = parameters_new(&patch_tensors, NET_DISCRIMINATOR, 1, device);
    x = values(d, "main.2.weight", &n);
    tap_ok(d->parameter_count == 2765633 && fabs(deviation(x, n) / 0.02 - 1) < 0.01 &&
               largest(x, n) > 0.06,
           "a discriminator's kernels are N(0, 0.02)");
    x = values(d, "main.9.weight", &n);
    tap_ok(fabs(deviation(x, n) / 0.02 - 1) < 0.15 && fabs(x[0] - 1) < 0.1,
           "a discriminator's norms are N(1, 0.02)");
    x = values(d, "main.9.bias", &n);
    tap_ok(largest(x, n) == 0, "a discriminator's norms have biases of 0");
    x = values(d, "main.0.bias", &n);
    bound = 1 / sqrt(48);
    tap_ok(largest(x, n) <= bound * (1 + 1e-6) && largest(x, n) > 0.9 * bound,
           "a discriminator's other biases have torch's default");
    parameters_free(d);
    architecture_release(&patch_tensors);
}

/* Compares the standard deviation and the largest value of a tensor with those of normals of
 * standard deviation `before`, truncated at twice that. */
static void check_truncated(const struct parameters *p, const char *name, double before)
{
    int64_t n;
    const float *x = values(p, name, &n);
    double most = largest(x, n) / before, ratio = deviation(x, n) / (0.8796257 * before);
    double allowed = 4 / sqrt(2.0 * (double)n);
    tap_ok(fabs(ratio - 1) <= allowed && most <= 2 * (1 + 1e-6) && most > 1.8,
           "%s: %.4f of the expected deviation, at most %.3f", name, ratio, most);
}

static void cloob_initialization(void)
{
    struct cloob_config sizes = {.embed_width = 96,
                                 .image_size = 32,
                                 .patch_size = 8,
                                 .image_width = 128,
                                 .image_layers = 1,
                                 .context = 20,
                                 .text_width = 64,
                                 .text_layers = 1,
                                 .vocabulary = 700};
    struct architecture cloob = {0};
    cloob_architecture(&cloob, &sizes);
    struct parameters *p = parameters_new(&cloob, NET_CLOOB, 5, device), *again, *other;
    const double cut = 0.87962566103423978;
    check_truncated(p, "image_encoder.layers.0.attn.query.weight", 1 / sqrt(128) / cut);
    check_truncated(p, "text_encoder.layers.0.attn.out.weight", 1 / sqrt(64) / cut);
    check_truncated(p, "image_encoder.layers.0.ff.linear_0.weight", 1 / sqrt(128));
    check_truncated(p, "image_encoder.layers.0.ff.linear_1.weight", 1 / sqrt(512));
    check_truncated(p, "text_encoder.proj.weight", 1 / sqrt(64));
    check_truncated(p, "image_encoder.embed.weight", 1 / sqrt(128));
    check_truncated(p, "text_encoder.embed.weight", 1 / sqrt(64));
    check_truncated(p, "image_encoder.pos_embed.weight", 1 / sqrt(128));
    check_truncated(p, "image_encoder.class_embed", 1 / sqrt(128));
    int64_t n;
    int wrong = 0, vectors = 0;
    for (int i = 0; i < p->count; i++) {
        const char *name = p->tensors[i].name;
        bool bias = strstr(name, ".bias"), norm = strstr(name, ".norm.weight");
        const float *x = values(p, name, &n);
        for (int64_t j = 0; (bias || norm) && j < n; j++)
            wrong += x[j] != (norm ? 1 : 0);
        vectors += bias || norm;
    }
    tap_ok(wrong == 0 && vectors == 2 * (2 * 2 + 6 + 1), "%d norms and biases are 1 and 0",
           vectors);
    again = parameters_new(&cloob, NET_CLOOB, 5, device);
    other = parameters_new(&cloob, NET_CLOOB, 6, device);
    const float *mine = parameters_read(p, ARRAY_WEIGHTS, 0, p->elements, NULL);
    tap_ok(!memcmp(mine, parameters_read(again, ARRAY_WEIGHTS, 0, p->elements, NULL),
                   (size_t)p->elements * sizeof *mine),
           "CLOOB: the same seed gives the same bits");
    tap_ok(relative_l2(mine, parameters_read(other, ARRAY_WEIGHTS, 0, p->elements, NULL),
                       (size_t)p->decayed_elements) > 1,
           "CLOOB: another seed gives other weights");
    parameters_free(p);
    parameters_free(again);
    parameters_free(other);
    architecture_release(&cloob);
}

/* A network loaded from parameters_names computes with the arrays themselves. */
static void loaded(struct parameters *p)
{
    struct named_weights names;
    struct unet *u;
    struct tape t;
    struct error e = {""};
    parameters_names(&names, p, ARRAY_WEIGHTS);
    tap_ok(unet_load(&u, &names, device, &e) == 0, "a U-Net loads from parameters%s", e.text);
    const struct unet_sizes *sizes = unet_sizes(u);
    tap_ok(sizes->autoencoder_scale == 2.5 && sizes->embed_width == 16 &&
               sizes->latent_channels == 4 && sizes->side_multiple == 8,
           "it has the parameters' sizes");
    parameters_bind(p, unet_loader(u));
    tape_init(&t, device);
    struct tensor *x = constant(DIMS(1, 4, 8, 8), 1), *time = constant(DIMS(1), 0.5f);
    struct tensor *embed = constant(DIMS(1, 16), 1);
    struct tensor *v = unet_forward(&t, u, x, time, embed);
    const struct parameter *bias = parameters_find(p, "net.8.main.4.bias");
    float before = ((float *)v->data)[0],
          value = parameters_read(p, ARRAY_WEIGHTS, bias->offset, 1, NULL)[0];
    value += 3;
    parameters_write(p, ARRAY_WEIGHTS, bias->offset, 1, &value);
    tensor_replace(&v, unet_forward(&t, u, x, time, embed));
    tap_ok(fabsf(((float *)v->data)[0] - before - 3) < 1e-5f,
           "the network uses a written weight at once");

    t.recording = true;
    tensor_replace(&v, unet_forward(&t, u, x, time, embed));
    struct tensor *dv = constant(v->ndim, v->shape, 1);
    tape_backward(&t, v, dv);
    const float *g = parameters_read(p, ARRAY_GRADIENTS, bias->offset, bias->count, NULL);
    tap_ok(fabsf(g[0] - 64) < 1e-4f, "a bias's gradient is the sum over pixels");
    int untouched = 0;
    for (int i = 0; i < p->trained_count; i++) {
        const struct parameter *w = &p->tensors[i];
        untouched +=
            largest(parameters_read(p, ARRAY_GRADIENTS, w->offset, w->count, NULL), w->count) == 0;
    }
    tap_ok(untouched == 0, "gradients reach every trained tensor");
    tensor_release(x);
    tensor_release(time);
    tensor_release(embed);
    tensor_release(v);
    tensor_release(dv);
    tape_release(&t);
    unet_free(u);
    names_release(&names);
}

static void from_names(struct parameters *p)
{
    struct named_weights names;
    struct parameters *copy = NULL;
    struct error e = {""};
    parameters_names(&names, p, ARRAY_EMA);
    names.device = NULL; /* as names from a file */
    tap_ok(parameters_from_names(&copy, &names, NULL, device, &e) == 0,
           "parameters are made from weights%s", e.text);
    tap_ok(copy && copy->elements == p->elements && copy->parameter_count == p->parameter_count &&
               copy->scalar_count == 1 && copy->scalars[0].value == 2.5f,
           "they have the same table");
    tap_ok(copy && !memcmp(parameters_read(copy, ARRAY_WEIGHTS, 0, p->elements, NULL),
                           parameters_read(p, ARRAY_EMA, 0, p->elements, NULL),
                           (size_t)p->elements * sizeof(float)),
           "they have the same values");
    parameters_free(copy);
    const struct parameter *t = parameters_find(p, "net.3.main.4.weight");
    float bad = NAN;
    parameters_write(p, ARRAY_EMA, t->offset + 7, 1, &bad);
    tap_ok(parameters_from_names(&copy, &names, NULL, device, &e) < 0 &&
               strstr(e.text, "net.3.main.4.weight"),
           "refused: a non-finite weight: %s", e.text);
    names_release(&names);
    parameters_set_scalar(p, "autoencoder_scale", 9);
    tap_ok(p->scalar_count == 1 && p->scalars[0].value == 9, "a scalar is replaced");
}

/* FNV-1a of all weights' bits. */
static uint64_t hash_of(const struct parameters *p)
{
    float *scratch = xmalloc((size_t)p->elements * sizeof *scratch);
    const void *bits = parameters_read(p, ARRAY_WEIGHTS, 0, p->elements, scratch);
    const unsigned char *bytes = bits;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < (size_t)p->elements * sizeof *scratch; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    free(scratch);
    return hash;
}

/* A network with tensors of more elements than a thread draws at once. */
static void make_wide(struct architecture *a, enum net net)
{
    static const struct unet_config unet = {.latent_channels = 4,
                                            .embed_width = 16,
                                            .base_channels = 32,
                                            .cond_width = 64,
                                            .multipliers = {4, 4, 4, 4},
                                            .autoencoder_scale = 1};
    static const struct cloob_config cloob = {.embed_width = 96,
                                              .image_size = 32,
                                              .patch_size = 8,
                                              .image_width = 192,
                                              .image_layers = 1,
                                              .context = 20,
                                              .text_width = 64,
                                              .text_layers = 1,
                                              .vocabulary = 1100};
    *a = (struct architecture){0};
    if (net == NET_UNET)
        unet_architecture(a, &unet);
    else if (net == NET_CLOOB)
        cloob_architecture(a, &cloob);
    else
        patch_discriminator_architecture(a, 3, 64, 3);
}

/* Runs are repeated from their seeds: values may change with nothing else. */
static void same_bits_everywhere(void)
{
    static const struct {
        enum net net;
        const char *name;
        uint64_t hash;
    } nets[] = {{NET_UNET, "U-Net", UINT64_C(0x7eae72fba647ea60)},
                {NET_CLOOB, "CLOOB", UINT64_C(0x5756cb462126660a)},
                {NET_DISCRIMINATOR, "discriminator", UINT64_C(0xb5e409729068928e)}};
    struct device *gpu = NULL;
    struct error e;
    emulated_cuda();
    if (device_open(&gpu, "cuda", &e) != 0)
        tap_skip(e.text, "initial values on a GPU");
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        struct architecture wide;
        make_wide(&wide, nets[i].net);
        struct parameters *p = parameters_new(&wide, nets[i].net, 5, device);
        threads_init(1);
        struct parameters *alone = parameters_new(&wide, nets[i].net, 5, device);
        threads_init(0);
        struct parameters *there = gpu ? parameters_new(&wide, nets[i].net, 5, gpu) : NULL;
        uint64_t hash = hash_of(p);
        tap_ok(hash == nets[i].hash && hash_of(alone) == hash,
               "a seed's initial values, %s: %016" PRIx64, nets[i].name, hash);
        tap_ok(!there || hash_of(there) == hash, "the same on a GPU");
        parameters_free(p);
        parameters_free(alone);
        parameters_free(there);
        architecture_release(&wide);
    }
    device_close(gpu);
}

int main(void)
{
    struct error e;
    struct unet_config sizes = {.latent_channels = 4,
                                .embed_width = 16,
                                .base_channels = 16,
                                .cond_width = 64,
                                .multipliers = {4, 4, 4, 4},
                                .autoencoder_scale = 2.5};
    threads_init(0);
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    unet_architecture(&architecture, &sizes);
    struct parameters *p = parameters_new(&architecture, NET_UNET, 5, device);
    layout(p);
    kernels_first();
    initialization(p);
    loaded(p);
    from_names(p);
    parameters_free(p);
    architecture_release(&architecture);
    cloob_initialization();
    same_bits_everywhere();
    tap_ok(device_memory(device).in_use == 0, "all memory was released");
    device_close(device);
    return tap_done();
}
