#include "tests/support/posterior.h"

#include <stdlib.h>

#include "common/base/message.h"
#include "common/train/loss.h"

static struct tensor *like(const struct tensor *t, const float *host)
{
    return tensor_from_f32(t->device, t->ndim, t->shape, host);
}

struct latent {
    int64_t n, elements; /* elements of one image's latent */
};

static struct latent latent_of(const struct tensor *moments)
{
    CHECK(moments->ndim == 4 && moments->shape[1] % 2 == 0 && moments->shape[0] > 0);
    int64_t n = moments->shape[0];
    return (struct latent){n, tensor_count(moments) / n / 2};
}

struct tensor *posterior_sample(const struct tensor *moments, const struct tensor *noise)
{
    struct latent l = latent_of(moments);
    float *m = tensor_to_host(moments), *e = noise ? tensor_to_host(noise) : NULL;
    float *z = xmalloc((size_t)(l.n * l.elements) * sizeof *z);
    CHECK(!noise || tensor_count(noise) == l.n * l.elements);
    for (int64_t i = 0; i < l.n; i++)
        posterior_draw(z + i * l.elements, m + 2 * i * l.elements, e ? e + i * l.elements : NULL,
                       l.elements);
    const int64_t *s = moments->shape;
    struct tensor *sample = tensor_from_f32(moments->device, DIMS(s[0], s[1] / 2, s[2], s[3]), z);
    free(m);
    free(e);
    free(z);
    return sample;
}

void posterior_sample_backward(const struct tensor *moments, const struct tensor *noise,
                               const struct tensor *dz, struct tensor *dmoments)
{
    struct latent l = latent_of(moments);
    float *m = tensor_to_host(moments), *e = noise ? tensor_to_host(noise) : NULL;
    float *d = tensor_to_host(dz), *dm = tensor_to_host(dmoments);
    for (int64_t i = 0; i < l.n; i++)
        posterior_draw_backward(m + 2 * i * l.elements, e ? e + i * l.elements : NULL,
                                d + i * l.elements, l.elements, 0);
    for (int64_t i = 0; i < 2 * l.n * l.elements; i++)
        dm[i] += m[i];
    tensor_upload(dmoments, dm);
    free(m);
    free(e);
    free(d);
    free(dm);
}

void kl_loss(struct kl_loss *out, const struct tensor *image, const struct tensor *reconstruction,
             const struct tensor *moments, double weight)
{
    CHECK(tensor_same_shape(image, reconstruction));
    *out = (struct kl_loss){0};
    struct latent l = latent_of(moments);
    float *x = tensor_to_host(image), *r = tensor_to_host(reconstruction),
          *m = tensor_to_host(moments);
    float *z = xmalloc((size_t)l.elements * sizeof *z);
    out->reconstruction = reconstruction_error(x, r, tensor_count(image), false, 1);
    for (int64_t i = 0; i < l.n; i++) {
        float *of_image = m + 2 * i * l.elements;
        out->kl += posterior_draw(z, of_image, NULL, l.elements) / (double)l.n;
        posterior_draw_backward(of_image, NULL, NULL, l.elements, weight / (double)l.n);
    }
    out->total = out->reconstruction + weight * out->kl;
    out->dreconstruction = like(image, r);
    out->dmoments = like(moments, m);
    free(x);
    free(r);
    free(m);
    free(z);
}
