/* Gradients of the losses against central differences. tests/golden/gradients.c compares the losses
 * with the reference. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/train/loss.h"
#include "kernels/device.h"
#include "tests/support/posterior.h"
#include "tests/support/tap.h"

static struct device *device;

static struct tensor *normals(int ndim, const int64_t *shape, uint64_t seed)
{
    struct tensor *t = tensor_new(device, DTYPE_F32, ndim, shape);
    rng_normal(t->data, (size_t)tensor_count(t), seed, RNG_POSTERIOR, 0, 0, 0);
    return t;
}

static void unit_rows(struct tensor *t)
{
    int64_t n = t->shape[0], d = t->shape[1];
    for (int64_t i = 0; i < n; i++) {
        float *row = (float *)t->data + i * d;
        double squares = 0;
        for (int64_t j = 0; j < d; j++)
            squares += (double)row[j] * row[j];
        for (int64_t j = 0; j < d; j++)
            row[j] = (float)(row[j] / sqrt(squares));
    }
}

/* Relative L2 error of the gradient by x against central differences of f. */
static double check_gradient(double (*f)(void *), void *arg, struct tensor *x,
                             const struct tensor *gradient, float step)
{
    float *values = x->data;
    const float *g = gradient->data;
    double error = 0, norm = 0;
    for (int64_t i = 0; i < tensor_count(x); i++) {
        float at = values[i], up = at + step, down = at - step;
        values[i] = up;
        double above = f(arg);
        values[i] = down;
        double slope = (above - f(arg)) / ((double)up - down);
        values[i] = at;
        error += (g[i] - slope) * (g[i] - slope);
        norm += slope * slope;
    }
    return sqrt(error / norm);
}

struct pair {
    struct tensor *image, *text;
};

static double cloob_value(void *arg)
{
    struct pair *p = arg;
    struct cloob_loss loss;
    cloob_loss(&loss, p->image, p->text, 30, 8);
    tensor_release(loss.dimage);
    tensor_release(loss.dtext);
    return loss.total;
}

static void cloob(int64_t n)
{
    struct pair p = {normals(DIMS(n, 12), 1), normals(DIMS(n, 12), 2)};
    unit_rows(p.image);
    unit_rows(p.text);
    struct cloob_loss loss;
    cloob_loss(&loss, p.image, p.text, 30, 8);
    double image = check_gradient(cloob_value, &p, p.image, loss.dimage, 1e-4f);
    double text = check_gradient(cloob_value, &p, p.text, loss.dtext, 1e-4f);
    tap_ok(image <= 1e-4, "CLOOB, %" PRId64 " pairs: gradient by images, error %.2g", n, image);
    tap_ok(text <= 1e-4, "CLOOB, %" PRId64 " pairs: gradient by texts, error %.2g", n, text);
    tensor_release(loss.dimage);
    tensor_release(loss.dtext);
    struct pair swapped = {p.text, p.image};
    tap_ok(fabs(cloob_value(&swapped) - loss.total) <= 1e-9 * fabs(loss.total),
           "CLOOB: the loss is symmetric in images and texts");
    tensor_release(p.image);
    tensor_release(p.text);
}

struct autoencoder {
    struct tensor *image, *reconstruction, *moments, *noise, *weights;
};

static double kl_value(void *arg)
{
    struct autoencoder *a = arg;
    struct kl_loss loss;
    kl_loss(&loss, a->image, a->reconstruction, a->moments, 0.1);
    tensor_release(loss.dreconstruction);
    tensor_release(loss.dmoments);
    return loss.total;
}

/* A scalar function of a sample: the sum of its elements times fixed weights. */
static double sample_value(void *arg)
{
    struct autoencoder *a = arg;
    struct tensor *z = posterior_sample(a->moments, a->noise);
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(z); i++)
        sum += (double)((float *)z->data)[i] * ((float *)a->weights->data)[i];
    tensor_release(z);
    return sum;
}

static void kl(void)
{
    struct autoencoder a = {
        normals(DIMS(2, 3, 4, 5), 1), normals(DIMS(2, 3, 4, 5), 2), normals(DIMS(2, 4, 3, 2), 3),
        normals(DIMS(2, 2, 3, 2), 4), normals(DIMS(2, 2, 3, 2), 5),
    };
    float *logvar = (float *)a.moments->data + 12; /* after the first image's means */
    logvar[0] = -50;
    logvar[1] = 40;
    struct kl_loss loss;
    kl_loss(&loss, a.image, a.reconstruction, a.moments, 0.1);
    tap_ok(fabs(loss.total - loss.reconstruction - 0.1 * loss.kl) <= 1e-12 * loss.total,
           "KL: the total is the weighted sum");
    double error = check_gradient(kl_value, &a, a.reconstruction, loss.dreconstruction, 1e-3f);
    tap_ok(error <= 1e-4, "KL: gradient by the reconstruction, error %.2g", error);
    const float *d = (const float *)loss.dmoments->data + 12;
    tap_ok(d[0] == 0 && d[1] == 0, "KL: no gradient by clamped log-variances");
    logvar[0] = 0.5f;
    logvar[1] = -1;
    tensor_release(loss.dreconstruction);
    tensor_release(loss.dmoments);
    kl_loss(&loss, a.image, a.reconstruction, a.moments, 0.1);
    error = check_gradient(kl_value, &a, a.moments, loss.dmoments, 1e-3f);
    tap_ok(error <= 1e-4, "KL: gradient by the moments, error %.2g", error);

    struct tensor *gradient = tensor_new(device, DTYPE_F32, DIMS(2, 4, 3, 2));
    for (int64_t i = 0; i < tensor_count(gradient); i++)
        ((float *)gradient->data)[i] = 0;
    posterior_sample_backward(a.moments, a.noise, a.weights, gradient);
    error = check_gradient(sample_value, &a, a.moments, gradient, 1e-3f);
    tap_ok(error <= 1e-4, "posterior: gradient by the moments, error %.2g", error);
    logvar[3] = 25;
    float before = ((float *)gradient->data)[15];
    posterior_sample_backward(a.moments, a.noise, a.weights, gradient);
    tap_ok(((float *)gradient->data)[15] == before,
           "posterior: no gradient by clamped log-variances");
    struct tensor *mode = posterior_sample(a.moments, NULL);
    tap_ok(((float *)mode->data)[12] == ((float *)a.moments->data)[24],
           "posterior: a sample without noise is the mean");
    tensor_release(mode);
    tensor_release(gradient);
    tensor_release(loss.dreconstruction);
    tensor_release(loss.dmoments);
    tensor_release(a.image);
    tensor_release(a.reconstruction);
    tensor_release(a.moments);
    tensor_release(a.noise);
    tensor_release(a.weights);
}

int main(void)
{
    struct error e;
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    cloob(2);
    cloob(7);
    kl();
    tap_ok(device_memory(device).in_use == 0, "all tensors were released");
    device_close(device);
    return tap_done();
}
