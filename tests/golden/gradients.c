/* Losses and gradients of the three networks against the reference's autograd. Weights are from the
 * formula in tests/support/synth.h and held in struct parameters, as in training. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "common/train/loss.h"
#include "common/train/parameters.h"
#include "kernels/tape.h"
#include "tests/support/golden.h"
#include "tests/support/golden_gradients.h"
#include "tests/support/posterior.h"
#include "tests/support/subject.h"
#include "tests/support/synth.h"
#include "tests/support/tap.h"
#include "tests/support/weight_copy.h"

#define TOLERANCE_LOSS     1e-4
#define TOLERANCE_GRADIENT 5e-3
/* In bf16, rounding moves many ReLU inputs across zero. */
#define TOLERANCE_LOSS_BF16           2e-2
#define TOLERANCE_GRADIENT_BF16       2e-2
#define TOLERANCE_RECONSTRUCTION_BF16 3e-2 /* through both halves */
#define TOLERANCE_INPUT_BF16          0.2
/* The gradient of a small image suffers, too: PyTorch's own float32 is 1.6e-2 from its double after
 * one ReLU of 64x24x8 crossed zero. Its norm hardly changes. */
#define TOLERANCE_INPUT 5e-2
struct run {
    const struct golden *golden;
    struct tape *tape;
    struct named_weights names; /* of the parameters */
};

static double tolerance_of(const struct run *r, double fp32, double bf16)
{
    return subject_tolerance(r->tape->device, fp32, fp32, bf16);
}

static void check_number(const struct run *r, double ours, const char *name)
{
    float *theirs = golden_read(r->golden, name);
    double error = fabs(ours - theirs[0]) / fabs(theirs[0]);
    double tolerance = tolerance_of(r, TOLERANCE_LOSS, TOLERANCE_LOSS_BF16);
    tap_ok(error <= tolerance, "%s: %s on %s: %.6f, relative error %.2g (<= %.0e)", r->golden->name,
           name, subject_name(r->tape->device), ours, error, tolerance);
    free(theirs);
}

static double l2(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* An input's gradient, and with a tighter tolerance its norm. */
static void check_input(const struct run *r, const struct tensor *input, const char *name)
{
    const char *file = r->golden->name;
    const struct tensor *g = input->gradient ? input->gradient->value : NULL;
    int64_t n = weight_count(golden_find(r->golden, name));
    if (!tap_ok(g && tensor_count(g) == n, "%s: %s has a gradient", file, name))
        return;
    float *ours = xmalloc((size_t)n * sizeof *ours), *theirs = golden_read(r->golden, name);
    tensor_to_f32(g, ours);
    double error = relative_l2(ours, theirs, (size_t)n), norm = l2(theirs, n);
    double of_norm = fabs(l2(ours, n) - norm) / norm;
    double most = tolerance_of(r, TOLERANCE_INPUT, TOLERANCE_INPUT_BF16);
    double most_of_norm = tolerance_of(r, TOLERANCE_GRADIENT, TOLERANCE_GRADIENT_BF16);
    tap_ok(error <= most && of_norm <= most_of_norm,
           "%s: %s on %s: relative L2 error %.2g (<= %.0e), of its norm %.2g (<= %.0e)", file, name,
           subject_name(r->tape->device), error, most, of_norm, most_of_norm);
    free(ours);
    free(theirs);
}

/* gnorm.NAME and ghead.NAME of every trained tensor. */
static void check_parameters(const struct run *r, const struct parameters *p)
{
    const struct golden *g = r->golden;
    int wanted = 0;
    for (int i = 0; i < weights_count(g->file); i++)
        wanted += !strncmp(weights_at(g->file, i)->name, "gnorm.", 6);
    tap_ok(p->trained_count == wanted, "%s: %d trained tensors", g->name, wanted);
    golden_gradients_check(g, p, 1, "in one batch");
}

static void run_unet(const struct run *r, const struct parameters *p)
{
    struct tape *t = r->tape;
    struct device *d = t->device;
    struct unet *u;
    struct error e;
    if (unet_load(&u, &r->names, d, &e))
        die("'%s': %s", r->golden->name, e.text);
    parameters_bind(p, unet_loader(u));
    struct tensor *x = golden_input(r->golden, d, "in.x");
    struct tensor *time = golden_input(r->golden, d, "in.t");
    struct tensor *embed = golden_input(r->golden, d, "in.cond");
    struct tensor *target = golden_input(r->golden, d, "in.target");
    tensor_require_gradient(x);
    struct tensor *v = unet_forward(t, u, x, time, embed);
    struct tensor *loss = tensor_new(d, DTYPE_F32, DIMS(v->shape[0]));
    struct tensor *dv = tensor_new(d, DTYPE_F32, v->ndim, v->shape);
    float one_of_all = 1.0f / (float)tensor_count(v);
    struct tensor *weight = tensor_from_f32(d, DIMS(1), &one_of_all);
    struct mse_args mse = {v, target, weight, loss, dv};
    d->backend->mse(d, &mse);
    tensor_release(weight);
    float *losses = xmalloc((size_t)v->shape[0] * sizeof *losses);
    tensor_to_f32(loss, losses);
    double sum = 0;
    for (int64_t i = 0; i < v->shape[0]; i++)
        sum += losses[i];
    check_number(r, sum / (double)v->shape[0], "out.loss");
    tape_backward(t, v, dv);
    check_input(r, x, "grad.in.x");
    free(losses);
    tensor_release(x);
    tensor_release(time);
    tensor_release(embed);
    tensor_release(target);
    tensor_release(v);
    tensor_release(loss);
    tensor_release(dv);
    unet_free(u);
}

static struct tensor *posterior_noise(const struct golden *g, struct device *d)
{
    const struct weight *z = golden_find(g, "in.z");
    size_t n = (size_t)weight_count(z);
    float *host = xmalloc(n * sizeof *host);
    synth_data(host, n, "eps", (uint64_t)golden_int(g, "seed"), SYNTH_DATA_SCALE);
    struct tensor *noise = tensor_from_f32(d, z->ndim, z->shape, host);
    free(host);
    return noise;
}

/* The posterior is sampled between the halves, so each half has its own tape. */
static void run_kl(const struct run *r, const struct parameters *p)
{
    struct tape *t = r->tape, decoder;
    struct device *d = t->device;
    struct kl *k;
    struct error e;
    if (kl_load(&k, &r->names, d, &e))
        die("'%s': %s", r->golden->name, e.text);
    parameters_bind(p, kl_loader(k));
    tape_init(&decoder, d);
    decoder.recording = true;
    struct tensor *image = golden_input(r->golden, d, "in.image");
    struct tensor *noise = posterior_noise(r->golden, d);
    tensor_require_gradient(image);
    struct tensor *moments = kl_encode(t, k, image);
    struct tensor *z = posterior_sample(moments, noise);
    tensor_require_gradient(z);
    struct tensor *reconstruction = kl_decode(&decoder, k, z);
    golden_check(r->golden, tensor_retain(reconstruction), "out.rec",
                 tolerance_of(r, TOLERANCE_LOSS, TOLERANCE_RECONSTRUCTION_BF16));
    struct kl_loss loss;
    kl_loss(&loss, image, reconstruction, moments, 1e-6);
    check_number(r, loss.kl, "out.kl");
    check_number(r, loss.total, "out.loss");
    tape_backward(&decoder, reconstruction, loss.dreconstruction);
    posterior_sample_backward(moments, noise, z->gradient->value, loss.dmoments);
    tape_backward(t, moments, loss.dmoments);
    check_input(r, image, "grad.image");
    tensor_release(image);
    tensor_release(noise);
    tensor_release(moments);
    tensor_release(z);
    tensor_release(reconstruction);
    tensor_release(loss.dreconstruction);
    tensor_release(loss.dmoments);
    tape_release(&decoder);
    kl_free(k);
}

static void run_cloob(const struct run *r, const struct parameters *p)
{
    const struct golden *g = r->golden;
    struct tape *t = r->tape, text_tape;
    struct cloob *c;
    struct error e;
    if (cloob_load(&c, &r->names, t->device, &e))
        die("'%s': %s", g->name, e.text);
    parameters_bind(p, cloob_loader(c));
    tape_init(&text_tape, t->device);
    text_tape.recording = true;
    struct tensor *rgb = golden_input(g, t->device, "in.rgb");
    const struct weight *w = golden_find(g, "in.tokens");
    int32_t *tokens = xmalloc(weight_bytes(w));
    weight_copy(w, tokens);
    struct tensor *image = cloob_image(t, c, rgb);
    struct tensor *text = cloob_text(&text_tape, c, tokens, w->shape[0]);
    struct cloob_loss loss;
    cloob_loss(&loss, image, text, golden_config(g, "inv_tau"), golden_config(g, "scale_hopfield"));
    check_number(r, loss.total, "out.loss");
    tape_backward(t, image, loss.dimage);
    tape_backward(&text_tape, text, loss.dtext);
    free(tokens);
    tensor_release(rgb);
    tensor_release(image);
    tensor_release(text);
    tensor_release(loss.dimage);
    tensor_release(loss.dtext);
    tape_release(&text_tape);
    cloob_free(c);
}

static void check_file(const char *folder, const char *name, const char *device)
{
    struct golden g;
    struct tape tape;
    struct parameters *p;
    struct error e;
    if (!golden_open(&g, folder, name))
        return;
    struct device *d = subject_open(device);
    if (parameters_from_names(&p, &g.names, NULL, d, &e))
        die("'%s': %s", g.name, e.text);
    tape_init(&tape, d);
    tape.recording = true;
    struct run r = {.golden = &g, .tape = &tape};
    parameters_names(&r.names, p, ARRAY_WEIGHTS);
    if (g.net == NET_UNET)
        run_unet(&r, p);
    else if (g.net == NET_KL)
        run_kl(&r, p);
    else
        run_cloob(&r, p);
    check_parameters(&r, p);
    names_release(&r.names);
    parameters_free(p);
    tap_ok(device_memory(d).in_use == 0, "%s: all tensors were released on %s", g.name,
           subject_name(d));
    tape_release(&tape);
    device_close(d);
    golden_close(&g);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tests/golden/data";
    static const char *const files[] = {"unet_tiny", "unet_mixed", "kl_tiny", "cloob_tiny"};
    const char *const *devices = subject_devices();
    message_init(argv[0]);
    threads_init(0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (int j = 0; devices[j]; j++)
            if (argc < 3 || !strcmp(argv[2], files[i]))
                check_file(folder, files[i], devices[j]);
    return tap_done();
}
