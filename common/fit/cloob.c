#include "common/fit/cloob.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/base/message.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/base/threads.h"
#include "common/images/prepare.h"
#include "common/train/network_views.h"
#include "formats/shards/path_set.h"
#include "formats/text/clip_bpe.h"
#include "formats/text/mojibake.h"

struct trainee {
    const struct fit_cloob *f;
    struct cloob_step *step;
    struct image_reader *reader;
    const struct image_batch *batch; /* read last */
    struct clip_bpe *bpe;
    float *images;        /* [batch, 3, S, S]: resized to the network's size */
    int32_t *tokens;      /* [batch, context] */
    bool truncated;       /* a caption was too long, and the user has been warned */
    bool garbled;         /* a caption that is mojibake has been reported */
    double cosine, steps; /* sums over the steps since metrics were last logged */
};

int fit_cloob_sizes(struct cloob_sizes *sizes, const struct parameters *p, struct error *e)
{
    struct network_view cloob = {0};
    struct clip_bpe *bpe = NULL;
    int status = network_view_open(&cloob, &cloob_network, p, ARRAY_WEIGHTS, e);
    if (status == 0) {
        *sizes = *cloob_sizes(cloob.network);
        if (!sizes->has_image || !sizes->has_text)
            status = error_set(e, "it has no %s tower", sizes->has_image ? "text" : "image");
        else if (sizes->context < 2)
            status = error_set(e, "a context length of 1 leaves no room for text");
        else
            status = clip_bpe_new(&bpe, sizes->vocabulary, e);
    }
    clip_bpe_free(bpe);
    network_view_release(&cloob);
    return status;
}

struct resizing {
    float *out; /* [n, 3, side, side] */
    int side;
    const struct image_batch *in;
};

static void resize_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct resizing *r = arg;
    int side = r->side, height = r->in->height, width = r->in->width;
    for (int64_t i = begin; i < end; i++)
        prepare_bicubic(r->out + 3 * i * side * side, side, side,
                        r->in->images + 3 * i * height * width, 3, height, width);
}

/* Images of the network's size: the batch's own, or resized into t->images. */
static const float *resized_images(const struct trainee *t, const struct image_batch *b)
{
    int side = (int)cloob_step_sizes(t->step)->image_size;
    if (b->height == side && b->width == side)
        return b->images;
    struct resizing r = {t->images, side, b};
    parallel_for(b->n, 1, resize_some, &r);
    return t->images;
}

static void make_tokens(struct trainee *t, const struct image_batch *b)
{
    size_t context = (size_t)cloob_step_sizes(t->step)->context;
    for (int64_t i = 0; i < b->n; i++) {
        size_t cut =
            clip_bpe_encode_row(t->bpe, b->captions[i], t->tokens + (size_t)i * context, context);
        if (cut > 0 && !t->truncated)
            warn("the caption of '%s' is %zu token%s too long for the context: it is truncated, as "
                 "are others that are too long",
                 image_set_path(t->f->images, (int64_t)b->samples[i]), cut, plural((int64_t)cut));
        t->truncated |= cut > 0;
    }
}

/* Once, with -v: looking takes as long as reading the captions. */
static void note_mojibake(struct trainee *t, const struct image_batch *b)
{
    for (int64_t i = 0; i < b->n && !t->garbled; i++) {
        t->garbled = text_is_mojibake(b->captions[i], strlen(b->captions[i]));
        if (t->garbled)
            note("the caption of '%s' " MOJIBAKE_ADVICE "; others may, too",
                 image_set_path(t->f->images, (int64_t)b->samples[i]));
    }
}

static struct cloob_batch batch_of(struct trainee *t, const struct image_batch *b)
{
    make_tokens(t, b);
    if (message_verbosity() >= VERBOSITY_VERBOSE)
        note_mojibake(t, b);
    return (struct cloob_batch){b->n, resized_images(t, b), t->tokens, b->samples};
}

static int read_batch(void *trainee, int64_t step, int64_t k, struct error *e)
{
    struct trainee *t = trainee;
    if (image_reader_next(t->reader, &t->batch, e) != 0)
        return -1;
    CHECK(t->batch->at.step == step && t->batch->at.micro_batch == k);
    return 0;
}

static void micro_batch(void *trainee)
{
    struct trainee *t = trainee;
    struct cloob_batch batch = batch_of(t, t->batch);
    cloob_step_micro_batch(t->step, &batch);
}

static void update(void *trainee, double learning_rate, double ema_decay, struct step_result *r)
{
    struct trainee *t = trainee;
    cloob_step_update(t->step, learning_rate, ema_decay, r);
    if (!r->applied)
        return;
    t->cosine += cloob_step_cosine(t->step);
    t->steps++;
}

static struct updater *updater(void *trainee)
{
    struct trainee *t = trainee;
    return cloob_step_updater(t->step);
}

/* The step has already averaged over all ranks. */
static void numbers(void *trainee, struct fit_numbers *n)
{
    struct trainee *t = trainee;
    if (t->steps > 0)
        fit_number(n, "cosine", t->cosine / t->steps);
    t->cosine = t->steps = 0;
}

/* Embeddings of held-out pairs, each with a different caption. */
struct held_out {
    struct path_set captions; /* hashes of their tokens */
    int64_t count;
    float *images, *texts;  /* [count, d] */
    int64_t batches, *ends; /* rows before the end of each batch */
};

/* The rank that computes a batch's embeddings. */
static int owner_of(const struct trainee *t, int64_t batch)
{
    return (int)(batch % t->f->loop.collective->size);
}

static bool is_new_caption(struct held_out *h, const int32_t *tokens, int64_t context)
{
    uint8_t key[PATH_KEY_SIZE];
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(tokens, (size_t)context * sizeof *tokens));
    memcpy(key, canonical.digest, sizeof key);
    return path_set_add(&h->captions, key);
}

/* Adds the embeddings of a batch without the pairs whose caption has occurred before, or room for
 * them if another rank computes them. */
static void embed_batch(struct trainee *t, enum parameter_array which, struct held_out *h,
                        struct image_batch *b)
{
    const struct cloob_sizes *sizes = cloob_step_sizes(t->step);
    int64_t pixels = 3 * (int64_t)b->height * b->width, kept = 0;
    make_tokens(t, b);
    for (int64_t i = 0; i < b->n; i++) {
        if (!is_new_caption(h, t->tokens + i * sizes->context, sizes->context))
            continue;
        memmove(b->images + kept * pixels, b->images + i * pixels,
                (size_t)pixels * sizeof *b->images);
        b->captions[kept] = b->captions[i];
        b->samples[kept] = b->samples[i];
        kept++;
    }
    b->n = kept;
    if (kept == 0)
        return;
    struct cloob_batch batch = batch_of(t, b);
    size_t width = (size_t)sizes->embed_width, rows = (size_t)(h->count + kept);
    h->images = xrealloc(h->images, rows * width * sizeof *h->images);
    h->texts = xrealloc(h->texts, rows * width * sizeof *h->texts);
    size_t at = (size_t)h->count * width;
    if (owner_of(t, h->batches) == t->f->loop.collective->rank)
        cloob_step_embed(t->step, which, &batch, h->images + at, h->texts + at);
    h->count += kept;
    h->ends = xrealloc(h->ends, (size_t)(h->batches + 1) * sizeof *h->ends);
    h->ends[h->batches++] = h->count;
}

static void exchange(const struct trainee *t, struct held_out *h)
{
    struct collective *c = t->f->loop.collective;
    size_t width = (size_t)cloob_step_sizes(t->step)->embed_width, at = 0;
    for (int64_t i = 0; i < h->batches; i++) {
        size_t bytes = ((size_t)h->ends[i] * width - at) * sizeof *h->images;
        collective_broadcast(c, owner_of(t, i), h->images + at, bytes);
        collective_broadcast(c, owner_of(t, i), h->texts + at, bytes);
        at = (size_t)h->ends[i] * width;
    }
}

static int embed_holdout(struct trainee *t, enum parameter_array which, struct held_out *h,
                         struct error *e)
{
    const struct fit_cloob *f = t->f;
    int64_t count = image_set_order(f->images)->holdout, batch = f->loop.options.step.batch;
    struct image_batch b = {0};
    int status = 0;
    for (int64_t first = 0; first < count; first += batch) {
        status = fit_stop_requested(&f->loop);
        if (status != 0)
            break;
        int64_t n = count - first < batch ? count - first : batch;
        status = fit_agree(&f->loop, image_set_read_holdout(f->images, first, n, &b, e), e);
        if (status != 0)
            break;
        embed_batch(t, which, h, &b);
    }
    image_batch_release(&b);
    exchange(t, h); /* as much on every rank, even if *stop is set */
    if (status == 0 && h->count < 2)
        return error_set(e, "no two held-out pairs with different captions can be read");
    return status;
}

/* Means over the groups, of *judged pairs each. */
static struct cloob_scores score(struct trainee *t, const struct held_out *h, int64_t *judged)
{
    int64_t size = h->count < FIT_CLOOB_GROUP ? h->count : FIT_CLOOB_GROUP;
    int64_t groups = h->count / size, d = cloob_step_sizes(t->step)->embed_width;
    double share = 1 / (double)groups;
    struct cloob_scores mean = {0};
    for (int64_t i = 0; i < groups; i++) {
        int64_t at = i * size * d;
        struct cloob_scores one = cloob_step_score(t->step, h->images + at, h->texts + at, size);
        mean.loss += one.loss * share;
        mean.cosine += one.cosine * share;
        mean.image_to_text += one.image_to_text * share;
        mean.text_to_image += one.text_to_image * share;
    }
    *judged = size;
    return mean;
}

/* 1: fit_stop_requested. */
static int judge(struct trainee *t, enum parameter_array which, struct cloob_scores *scores,
                 int64_t *judged, struct error *e)
{
    struct held_out h = {0};
    path_set_init(&h.captions);
    int status = embed_holdout(t, which, &h, e);
    if (status == 0)
        *scores = score(t, &h, judged);
    path_set_release(&h.captions);
    free(h.images);
    free(h.texts);
    free(h.ends);
    return status;
}

static int evaluate(void *trainee, struct fit_numbers *n, struct error *e)
{
    struct trainee *t = trainee;
    struct cloob_scores ema, raw;
    int64_t judged;
    int status = judge(t, ARRAY_EMA, &ema, &judged, e);
    if (status == 0)
        status = judge(t, ARRAY_WEIGHTS, &raw, &judged, e);
    if (status != 0)
        return status;
    fit_number(n, "holdout-loss/ema", ema.loss);
    fit_number(n, "holdout-loss/raw", raw.loss);
    fit_number(n, "retrieval/image-to-text", ema.image_to_text);
    fit_number(n, "retrieval/text-to-image", ema.text_to_image);
    fit_number(n, "holdout-cosine", ema.cosine);
    fit_number(n, "holdout-pairs", (double)judged);
    snprintf(n->text, sizeof n->text,
             "held-out loss %.5f, with raw weights %.5f; retrieval among %" PRId64
             " pairs: image to text %.1f%%, text to image %.1f%%; cosine %.3f",
             ema.loss, raw.loss, judged, 100 * ema.image_to_text, 100 * ema.text_to_image,
             ema.cosine);
    return 0;
}

static double waited(void *trainee)
{
    struct trainee *t = trainee;
    return image_reader_waited(t->reader);
}

static struct unreadable *unreadable(void *trainee)
{
    struct trainee *t = trainee;
    return image_set_unreadable(t->f->images);
}

static char *describe(void *trainee, uint64_t sample)
{
    struct trainee *t = trainee;
    return xstrdup(image_set_path(t->f->images, (int64_t)sample));
}

static void close_trainee(void *trainee)
{
    struct trainee *t = trainee;
    image_reader_close(t->reader);
    clip_bpe_free(t->bpe);
    cloob_step_close(t->step);
    free(t->images);
    free(t->tokens);
}

static int open_trainee(void *trainee, const struct fit_loop *l, struct error *e)
{
    struct trainee *t = trainee;
    const struct fit_cloob *f = (const struct fit_cloob *)l;
    const struct step_options *o = &l->options.step;
    struct batch_reader_options reader = fit_loop_reader_options(l);
    t->f = f;
    if (cloob_step_open(&t->step, l->parameters, l->collective, o, &f->step, e) != 0)
        return -1;
    const struct cloob_sizes *sizes = cloob_step_sizes(t->step);
    if (clip_bpe_new(&t->bpe, sizes->vocabulary, e) != 0)
        return -1;
    size_t n = (size_t)o->batch, side = (size_t)sizes->image_size;
    t->images = xmalloc(n * 3 * side * side * sizeof *t->images);
    t->tokens = xmalloc(n * (size_t)sizes->context * sizeof *t->tokens);
    return image_reader_open(&t->reader, f->images, &reader, f->flip, e);
}

static int64_t memory(const struct fit_loop *f, const struct step_options *o,
                      const struct device *like)
{
    const struct fit_cloob *c = (const struct fit_cloob *)f;
    struct architecture architecture = parameters_architecture(f->parameters);
    bool evaluates = f->options.holdout > 0;
    int64_t bytes = cloob_step_memory(&architecture, o, &c->step, like, f->collective->size,
                                      evaluates ? o->batch : 0);
    architecture_release(&architecture);
    return bytes;
}

static int64_t data_memory(const struct fit_loop *f, const struct batch_reader_options *o)
{
    const struct fit_cloob *c = (const struct fit_cloob *)f;
    const struct image_set_options *set = image_set_options(c->images);
    int64_t image = 3 * (int64_t)set->height * set->width * (int64_t)sizeof(float);
    /* The micro-batch at the network's size, which the step keeps until all have been embedded. */
    return image_reader_memory(c->images, o) + (o->accumulate + 1) * o->batch * image;
}

const struct trainee_functions fit_cloob_functions = {
    .size = sizeof(struct trainee),
    .open = open_trainee,
    .close = close_trainee,
    .updater = updater,
    .read = read_batch,
    .micro_batch = micro_batch,
    .update = update,
    .evaluate = evaluate,
    .numbers = numbers,
    .waited = waited,
    .unreadable = unreadable,
    .describe = describe,
    .memory = memory,
    .data_memory = data_memory,
};
