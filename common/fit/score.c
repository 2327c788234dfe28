#include "common/fit/score.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "common/diffusion/sample.h"
#include "common/score/distances.h"
#include "common/score/reference.h"
#include "common/train/network_views.h"

struct score {
    struct score_options options;
    const struct parameters *parameters;
    struct tape tape;
    struct model *model;
    struct embedder embedder;
    struct conditionings wanted; /* the held-out embeddings */
    struct embeddings reference;
};

static struct sample_options sampling(const struct score_options *o)
{
    return (struct sample_options){
        .method = SAMPLER_DPM2M,
        .steps = SCORE_STEPS,
        .seed = o->seed,
        .count = 1,
        .consecutive = true,
        .height = o->height,
        .width = o->width,
        .guidance_start = 1,
        .embed_noise = o->embed_noise,
        .autoencoder_scale = o->autoencoder_scale,
        .batch_size = (int)o->batch,
    };
}

static int open_networks(struct score *s, const struct shard_info *store, struct error *e)
{
    const struct score_options *o = &s->options;
    if (model_open(&s->model, &o->model, MODEL_AUTOENCODER | MODEL_CLOOB, s->tape.device, e) != 0)
        return -1;
    s->embedder = (struct embedder){
        .tape = &s->tape,
        .cloob = s->model->cloob,
        .size = {store->image_height, store->image_width},
        .color = strcmp(store->preprocessing, "pil") == 0 ? PREPARE_PIL : PREPARE_DISPLAY,
        .batch = o->batch,
    };
    return embedder_check(&s->embedder, s->model->cloob_part.path, e);
}

static int check_origin(const struct score *s, const struct shard_info *store, struct error *e)
{
    if (model_part_check(&s->model->autoencoder_part, &store->autoencoder, e) != 0)
        return -1;
    return model_part_check(&s->model->cloob_part, &store->cloob, e);
}

static int check_network(const struct score *s, struct error *e)
{
    struct sample_options sample = sampling(&s->options);
    struct network_view unet = {0};
    int status = network_view_open(&unet, &unet_network, s->parameters, ARRAY_WEIGHTS, e);
    if (status == 0)
        status = sample_check(&sample, unet.network, s->model->kl, e);
    network_view_release(&unet);
    return status;
}

static void score_begin(struct score *s, const struct score_options *o, const struct parameters *p)
{
    *s = (struct score){.options = *o, .parameters = p};
    tape_init(&s->tape, p->device);
}

/* The embeddings of the first held-out records that can be read. */
static int read_wanted(struct score *s, struct latent_set *data, struct error *e)
{
    int64_t count = latent_set_holdout_count(data), width = latent_set_info(data)->embed_size;
    int64_t wanted = s->options.images;
    struct holdout_batch h;
    int status = 0;
    holdout_batch_init(&h);
    for (int64_t i = 0; i < count && s->wanted.count < wanted && status == 0; i++) {
        char label[32];
        status = holdout_batch_read(&h, data, i, 1, e);
        snprintf(label, sizeof label, "record %" PRIu64, status == 0 ? h.samples[0] : 0);
        if (status == 0 && !h.damaged[0])
            conditionings_add_embed(&s->wanted, label, h.embeds, width, 1);
    }
    holdout_batch_release(&h);
    if (status == 0 && s->wanted.count < wanted)
        status = error_set(e, "%d held-out image%s for %" PRId64 " samples: give --holdout",
                           s->wanted.count, plural(s->wanted.count), wanted);
    return status;
}

static int open_all(struct score *s, struct latent_set *data, struct error *e)
{
    const struct shard_info *store = latent_set_info(data);
    if (open_networks(s, store, e) != 0 || check_origin(s, store, e) != 0 ||
        check_network(s, e) != 0 || read_wanted(s, data, e) != 0)
        return -1;
    return reference_from_store(&s->reference, data, SCORE_REFERENCE, s->options.seed, e);
}

int score_open(struct score **out, const struct score_options *o, const struct parameters *p,
               struct latent_set *data, struct error *e)
{
    struct score *s = xcalloc(1, sizeof *s);
    score_begin(s, o, p);
    if (open_all(s, data, e) != 0) {
        score_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

static void score_end(struct score *s)
{
    model_close(s->model);
    conditionings_release(&s->wanted);
    embeddings_release(&s->reference);
    tape_release(&s->tape);
}

void score_close(struct score *s)
{
    if (s)
        score_end(s);
    free(s);
}

/* Samples that wait to be embedded, and the embeddings of the others. */
struct samples {
    const struct score *score;
    struct image *images; /* [batch] */
    int64_t n;
    struct embeddings embeds;
};

static int embed_samples(struct samples *w, struct error *e)
{
    const struct embedder *m = &w->score->embedder;
    float *rows = xmalloc((size_t)(m->batch * w->embeds.width) * sizeof *rows);
    const char **names = xcalloc((size_t)m->batch, sizeof *names);
    for (int64_t i = 0; i < w->n; i++)
        names[i] = "a sample";
    int status = embedder_run(m, rows, w->images, names, w->n, e);
    for (int64_t i = 0; i < w->n && status == 0; i++)
        embeddings_add(&w->embeds, rows + i * w->embeds.width, NULL);
    w->n = 0;
    free(names);
    free(rows);
    return status;
}

/* A sample_emit. */
static int add_sample(void *context, const struct image *image, int conditioning, int64_t index,
                      struct error *e)
{
    struct samples *w = context;
    struct image *copy = &w->images[w->n];
    if (image_new(copy, image->width, image->height, image->channels, image->depth, e) != 0)
        return -1;
    memcpy(copy->pixels, image->pixels, image_bytes(image));
    w->n++;
    return w->n == w->score->embedder.batch ? embed_samples(w, e) : 0;
}

static int make_samples(struct samples *w, const struct score *s,
                        const struct sample_options *sample, enum parameter_array which,
                        struct error *e)
{
    struct network_view unet = {0};
    struct tape tape = s->tape;
    *w = (struct samples){.score = s, .embeds.width = cloob_sizes(s->model->cloob)->embed_width};
    w->images = xcalloc((size_t)s->embedder.batch, sizeof *w->images);
    int status = network_view_open(&unet, &unet_network, s->parameters, which, e);
    if (status == 0) {
        loader_refresh(network_view_loader(&unet));
        status =
            sample_run(&tape, sample, unet.network, s->model->kl, &s->wanted, add_sample, w, e);
    }
    if (status == 0 && w->n > 0)
        status = embed_samples(w, e);
    network_view_release(&unet);
    return status;
}

static void samples_release(struct samples *w)
{
    for (int64_t i = 0; i < w->n; i++)
        image_release(&w->images[i]);
    free(w->images);
    embeddings_release(&w->embeds);
}

static double mean_cosine(const struct score *s, const struct embeddings *samples)
{
    struct embeddings wanted = {.width = samples->width};
    double sum = 0;
    for (int64_t i = 0; i < samples->count; i++) {
        embeddings_add(&wanted, s->wanted.items[i].embeds, NULL);
        sum += embeddings_cosine(samples->values + i * samples->width,
                                 wanted.values + i * samples->width, samples->width);
    }
    embeddings_release(&wanted);
    return sum / (double)samples->count;
}

int score_run(struct score *s, struct fit_numbers *n, const volatile sig_atomic_t *stop,
              struct error *e)
{
    struct sample_options sample = sampling(&s->options);
    struct samples w;
    struct distances d = {0};
    sample.stop = stop;
    int status = make_samples(&w, s, &sample, ARRAY_EMA, e);
    bool stopped = status != 0 && *stop;
    if (status == 0)
        status = distances_measure(&d, &s->tape, &w.embeds, &s->reference, s->options.seed, e);
    if (status == 0) {
        fit_number(n, "score/cosine", mean_cosine(s, &w.embeds));
        fit_number(n, "score/frechet", d.frechet.distance);
        fit_number(n, "score/kernel", d.kernel.mean);
        fit_number(n, "score/precision", d.neighbours.precision);
        fit_number(n, "score/recall", d.neighbours.recall);
    }
    distances_release(&d);
    samples_release(&w);
    device_trim(s->tape.device);
    return stopped ? 1 : status;
}

/* The sampler keeps all that it ever keeps after a few steps. */
#define PLANNED_STEPS 6

int score_memory(int64_t *bytes, const struct score_options *o, const struct parameters *p,
                 struct latent_set *data, struct error *e)
{
    struct score s;
    struct samples w = {0};
    int64_t width = latent_set_info(data)->embed_size;
    int64_t before = device_dry_memory(p->device);
    float *zeros = xcalloc((size_t)width, sizeof *zeros);
    CHECK(p->device->dry);
    score_begin(&s, o, p);
    struct sample_options sample = sampling(o);
    sample.steps = PLANNED_STEPS;
    int status = open_networks(&s, latent_set_info(data), e);
    for (int64_t i = 0; i < o->batch && i < o->images; i++)
        conditionings_add_embed(&s.wanted, "planned", zeros, width, 1);
    if (status == 0)
        status = check_network(&s, e);
    if (status == 0)
        status = make_samples(&w, &s, &sample, ARRAY_WEIGHTS, e);
    int64_t reference = latent_set_training_count(data);
    reference = reference < SCORE_REFERENCE ? reference : SCORE_REFERENCE;
    *bytes = device_dry_memory(p->device) - before +
             2 * (reference + o->images) * width * (int64_t)sizeof(float);
    samples_release(&w);
    free(zeros);
    score_end(&s);
    return status;
}
