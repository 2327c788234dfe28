#include "common/train/cloob_step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/train/cloob_gather.h"
#include "common/train/network_views.h"
#include "kernels/replay.h"
#include "kernels/tape.h"

/* One side of the pairs. */
struct side {
    struct tape tape;
    struct tensor *embeds;   /* [effective batch, d] of all ranks' micro-batches */
    struct tensor *gradient; /* of the loss by embeds, times the loss scale */
    /* [batch, d] of one micro-batch: its embeddings, or the gradient by them. */
    struct tensor *own;
};

/* The kinds of work. Each is on the same memory every time, so that it can be replayed. */
enum work {
    EMBED,         /* a micro-batch, but for the last: its embeddings */
    CONTRAST,      /* the last one: its embeddings, the loss of all, and its gradient */
    AGAIN_FIRST,   /* the others again, for their gradients: the first in the sum */
    AGAIN_FURTHER, /* ... and further ones */
    WORKS
};

struct cloob_step {
    struct parameters *parameters;
    struct collective *collective;
    struct step_options options;
    struct cloob_step_options loss_options;
    struct network_views views;
    struct side image, text;
    bool image_is_fixed;
    struct tensor *rgb, *ids, *padding; /* the micro-batch that runs */
    struct tensor *weight;              /* F64 [1]: the loss scale */
    struct tensor *numbers;             /* F64 [2]: loss and mean cosine of the effective batch */
    struct replay *work[WORKS];
    float *images;   /* [batch * (accumulate - 1), 3, S, S]: of the micro-batches that run twice;
                        none if the image tower is fixed */
    int32_t *tokens; /* of those micro-batches, always kept */
    uint64_t *samples;
    int64_t micro_batch; /* those done so far in this update */
    bool has_gradients;
    struct tensor *held; /* the gradient of the last micro-batch; NULL: it is the only one */
    double cosine;       /* of the last update */
    struct updater updater;
    uint64_t *suspects;
};

static void side_make(struct side *s, struct device *d, int64_t all, int64_t batch, int64_t width)
{
    s->embeds = tensor_new(d, DTYPE_F32, DIMS(all, width));
    s->gradient = tensor_new(d, DTYPE_F32, DIMS(all, width));
    s->own = tensor_new(d, DTYPE_F32, DIMS(batch, width));
}

static void side_release(struct side *s)
{
    tape_release(&s->tape);
    tensor_release(s->embeds);
    tensor_release(s->gradient);
    tensor_release(s->own);
}

static int64_t image_elements(const struct cloob_step *s)
{
    int64_t size = cloob_step_sizes(s)->image_size;
    return 3 * size * size;
}

bool cloob_is_image_tower(const char *name)
{
    return strncmp(name, "image_encoder.", strlen("image_encoder.")) == 0;
}

static bool trains_image_tower(const struct parameters *p)
{
    for (int i = 0; i < p->trained_count; i++)
        if (cloob_is_image_tower(p->tensors[i].name))
            return true;
    return false;
}

static int check_towers(const struct cloob_step *s, struct error *e)
{
    const struct cloob_sizes *sizes = cloob_step_sizes(s);
    if (!sizes->has_image || !sizes->has_text)
        return error_set(e, "it has no %s tower", sizes->has_image ? "text" : "image");
    return 0;
}

static void embed(struct tape *t, void *context);
static void contrast(struct tape *t, void *context);
static void run_again(struct tape *t, void *context);

static void make_buffers(struct cloob_step *s)
{
    static replay_function *const functions[WORKS] = {embed, contrast, run_again, run_again};
    const struct cloob_sizes *sizes = cloob_step_sizes(s);
    struct device *d = s->parameters->device;
    int64_t all = step_effective_batch(&s->options, s->collective), n = s->options.batch;
    side_make(&s->image, d, all, n, sizes->embed_width);
    side_make(&s->text, d, all, n, sizes->embed_width);
    s->rgb = tensor_new(d, DTYPE_F32, DIMS(n, 3, sizes->image_size, sizes->image_size));
    s->ids = tensor_new(d, DTYPE_I32, DIMS(n, sizes->context));
    s->padding = tensor_new(d, DTYPE_I32, DIMS(n, sizes->context));
    s->weight = tensor_new(d, DTYPE_F64, DIMS(1));
    s->numbers = tensor_new(d, DTYPE_F64, DIMS(2));
    for (int i = 0; i < WORKS; i++) {
        s->work[i] = replay_new(&s->text.tape, functions[i], s);
        replay_agree(s->work[i], step_agree, s->collective);
    }
}

int cloob_step_open(struct cloob_step **out, struct parameters *p, struct collective *c,
                    const struct step_options *o, const struct cloob_step_options *l,
                    struct error *e)
{
    CHECK(o->batch >= 1 && o->accumulate >= 1 && step_effective_batch(o, c) >= 2);
    CHECK(l->inv_tau > 0 && l->scale_hopfield >= 0);
    if (p->net != NET_CLOOB)
        return error_set(e, "not a CLOOB");
    struct cloob_step *s = xcalloc(1, sizeof *s);
    s->parameters = p;
    s->collective = c;
    s->options = *o;
    s->loss_options = *l;
    tape_init(&s->image.tape, p->device);
    tape_init(&s->text.tape, p->device);
    updater_init(&s->updater, p, c, &o->adamw, o->clip_grad, o->accumulate);
    if (network_views_open(&s->views, &cloob_network, p, e) != 0 || check_towers(s, e) != 0) {
        cloob_step_close(s);
        return -1;
    }
    updater_write_copies(&s->updater, network_view_loader(&s->views.trained));
    if (o->accumulate > 1)
        s->held = tensor_new(p->device, DTYPE_F32, DIMS(p->trained_elements));
    make_buffers(s);
    s->image_is_fixed = !trains_image_tower(p);
    int64_t kept = o->batch * (o->accumulate - 1), images = s->image_is_fixed ? 0 : kept;
    s->images = xmalloc((size_t)(images * image_elements(s) + 1) * sizeof *s->images);
    s->tokens = xmalloc((size_t)(kept * cloob_step_sizes(s)->context + 1) * sizeof *s->tokens);
    s->samples = xcalloc((size_t)(o->batch * o->accumulate), sizeof *s->samples);
    s->suspects = xcalloc((size_t)(o->batch * o->accumulate), sizeof *s->suspects);
    *out = s;
    return 0;
}

void cloob_step_close(struct cloob_step *s)
{
    if (!s)
        return;
    for (int i = 0; i < WORKS; i++)
        replay_free(s->work[i]);
    side_release(&s->image);
    side_release(&s->text);
    tensor_release(s->rgb);
    tensor_release(s->ids);
    tensor_release(s->padding);
    tensor_release(s->weight);
    tensor_release(s->numbers);
    updater_release(&s->updater);
    network_views_release(&s->views);
    tensor_release(s->held);
    free(s->images);
    free(s->tokens);
    free(s->samples);
    free(s->suspects);
    free(s);
}

const struct cloob_sizes *cloob_step_sizes(const struct cloob_step *s)
{
    return cloob_sizes(s->views.trained.network);
}

struct updater *cloob_step_updater(struct cloob_step *s)
{
    return &s->updater;
}

/* A micro-batch's embeddings are those that its gradient will be computed from, whether or not they
 * are computed twice. */
static void set_training(struct cloob_step *s, bool training, bool recording)
{
    s->image.tape.training = s->text.tape.training = training;
    s->image.tape.recording = recording && !s->image_is_fixed;
    s->text.tape.recording = recording;
}

/* The rows of the loss that belong to this rank's micro-batch k. */
static struct tensor *rows_of(const struct cloob_step *s, struct tensor *t, int64_t k)
{
    return tensor_slice(t, step_position(&s->options, s->collective, k), s->options.batch);
}

static void copy_rows(const struct cloob_step *s, struct tensor *all, int64_t k,
                      const struct tensor *rows)
{
    struct tensor *place = rows_of(s, all, k);
    tensor_copy(place, rows);
    tensor_release(place);
}

/* images NULL: not needed. */
static void upload(const struct cloob_step *s, const float *images, const int32_t *tokens)
{
    const struct cloob *c = s->views.trained.network;
    int32_t *padding = xmalloc((size_t)tensor_count(s->padding) * sizeof *padding);
    cloob_padding(c, tokens, s->options.batch, padding);
    if (images)
        tensor_upload(s->rgb, images);
    tensor_upload(s->ids, tokens);
    tensor_upload(s->padding, padding);
    free(padding);
}

/* Forward of the micro-batch in the buffers. */
static struct tensor *run_image(struct cloob_step *s)
{
    return cloob_image(&s->image.tape, s->views.trained.network, s->rgb);
}

static struct tensor *run_text(struct cloob_step *s)
{
    return cloob_text_padded(&s->text.tape, s->views.trained.network, s->ids, s->padding);
}

/* A replay_function. */
static void embed(struct tape *t, void *context)
{
    struct cloob_step *s = context;
    set_training(s, true, false);
    struct tensor *image = run_image(s), *text = run_text(s);
    set_training(s, false, false);
    tensor_copy(s->image.own, image);
    tensor_copy(s->text.own, text);
    tensor_release(image);
    tensor_release(text);
}

/* The last micro-batch stays in the buffers until cloob_step_gradients. */
void cloob_step_micro_batch(struct cloob_step *s, const struct cloob_batch *b)
{
    const struct step_options *o = &s->options;
    int64_t k = s->micro_batch, pixels = image_elements(s), context = cloob_step_sizes(s)->context;
    CHECK(b->n == o->batch && k < o->accumulate);
    network_views_train(&s->views);
    s->has_gradients = false;
    memcpy(s->samples + k * b->n, b->samples, (size_t)b->n * sizeof *s->samples);
    upload(s, b->images, b->tokens);
    s->micro_batch++;
    if (k == o->accumulate - 1)
        return;
    if (!s->image_is_fixed)
        memcpy(s->images + k * b->n * pixels, b->images,
               (size_t)(b->n * pixels) * sizeof *s->images);
    memcpy(s->tokens + k * b->n * context, b->tokens, (size_t)(b->n * context) * sizeof *s->tokens);
    replay_run(s->work[EMBED]);
    copy_rows(s, s->image.embeds, k, s->image.own);
    copy_rows(s, s->text.embeds, k, s->text.own);
}

/* Computes the loss of all ranks' embeddings, the same on every rank. */
static void find_loss(struct cloob_step *s)
{
    struct device *d = s->parameters->device;
    struct cloob_loss_args args = {.image = s->image.embeds,
                                   .text = s->text.embeds,
                                   .weight = s->weight,
                                   .inv_tau = s->loss_options.inv_tau,
                                   .scale_hopfield = s->loss_options.scale_hopfield,
                                   .numbers = s->numbers,
                                   .dimage = s->image.gradient,
                                   .dtext = s->text.gradient};
    d->backend->cloob_loss(d, &args);
}

/* watched: the next backward passes complete a micro-batch's gradient, which is not held. */
static void fresh_gradients(struct cloob_step *s, bool watched)
{
    tape_fresh_gradients(&s->image.tape);
    tape_fresh_gradients(&s->text.tape);
    if (watched) {
        updater_watch(&s->updater, &s->image.tape);
        updater_watch(&s->updater, &s->text.tape);
    }
}

/* Backward of a micro-batch that is recorded on the tapes, given the gradients by its embeddings.
 * Releases the embeddings; image may be NULL. */
static void run_back(struct cloob_step *s, struct tensor *image, struct tensor *dimage,
                     struct tensor *text, struct tensor *dtext)
{
    if (!s->image_is_fixed)
        tape_backward(&s->image.tape, image, dimage);
    tape_backward(&s->text.tape, text, dtext);
    tensor_release(image);
    tensor_release(text);
}

/* A replay_function. With several micro-batches the gradient is held until those of the others,
 * which run a second time, are added before it. */
static void contrast(struct tape *t, void *context)
{
    struct cloob_step *s = context;
    int64_t last = s->options.accumulate - 1;
    fresh_gradients(s, !s->held);
    set_training(s, true, true);
    struct tensor *image = run_image(s), *text = run_text(s);
    set_training(s, false, false);
    copy_rows(s, s->image.embeds, last, image);
    copy_rows(s, s->text.embeds, last, text);
    cloob_gather(s->collective, &s->options, s->image.embeds);
    cloob_gather(s->collective, &s->options, s->text.embeds);
    collective_join(s->collective, s->parameters->device);
    find_loss(s);
    struct tensor *dimage = rows_of(s, s->image.gradient, last);
    struct tensor *dtext = rows_of(s, s->text.gradient, last);
    run_back(s, image, dimage, text, dtext);
    tensor_release(dimage);
    tensor_release(dtext);
    if (s->held)
        tensor_copy(s->held, s->parameters->micro_gradients);
    else
        updater_sum(&s->updater);
}

/* A replay_function. */
static void run_again(struct tape *t, void *context)
{
    struct cloob_step *s = context;
    fresh_gradients(s, true);
    set_training(s, true, true);
    struct tensor *image = s->image_is_fixed ? NULL : run_image(s), *text = run_text(s);
    set_training(s, false, false);
    run_back(s, image, s->image.own, text, s->text.own);
    updater_sum(&s->updater);
}

static void take_rows(const struct cloob_step *s, const struct side *side, int64_t k)
{
    struct tensor *rows = rows_of(s, side->gradient, k);
    tensor_copy(side->own, rows);
    tensor_release(rows);
}

/* The gradients of all micro-batches but the last. */
static void add_others(struct cloob_step *s)
{
    const struct step_options *o = &s->options;
    int64_t pixels = image_elements(s), context = cloob_step_sizes(s)->context;
    for (int64_t k = 0; k < o->accumulate - 1; k++) {
        upload(s, s->image_is_fixed ? NULL : s->images + k * o->batch * pixels,
               s->tokens + k * o->batch * context);
        take_rows(s, &s->image, k);
        take_rows(s, &s->text, k);
        updater_aim(&s->updater, network_view_loader(&s->views.trained));
        replay_run(s->work[k == 0 ? AGAIN_FIRST : AGAIN_FURTHER]);
        updater_count(&s->updater);
    }
}

void cloob_step_gradients(struct cloob_step *s)
{
    struct loader *l = network_view_loader(&s->views.trained);
    CHECK(s->micro_batch == s->options.accumulate);
    tensor_upload(s->weight, &s->updater.loss_scale.scale);
    if (s->held)
        parameters_aim(s->parameters, l, false);
    else
        updater_aim(&s->updater, l);
    if (cloob_gather_is_on_device(s->collective))
        replay_run(s->work[CONTRAST]);
    else
        contrast(&s->text.tape, s);
    add_others(s);
    if (s->held) {
        updater_aim(&s->updater, l);
        tensor_copy(s->parameters->micro_gradients, s->held);
        updater_sum(&s->updater);
    }
    updater_count(&s->updater);
    s->has_gradients = true;
}

/* Finds this rank's pairs with embeddings that are not finite. Returns their number. */
static int64_t find_suspects(struct cloob_step *s)
{
    int64_t batch = s->options.batch, d = tensor_last(s->image.embeds), count = 0;
    float *x = tensor_to_host(s->image.embeds), *y = tensor_to_host(s->text.embeds);
    for (int64_t k = 0; k < s->options.accumulate; k++) {
        int64_t first = step_position(&s->options, s->collective, k);
        for (int64_t i = 0; i < batch; i++)
            if (!all_finite(x + (first + i) * d, d) || !all_finite(y + (first + i) * d, d))
                s->suspects[count++] = s->samples[k * batch + i];
    }
    free(x);
    free(y);
    return count;
}

void cloob_step_update(struct cloob_step *s, double learning_rate, double ema_decay,
                       struct step_result *r)
{
    struct update_result update;
    if (!s->has_gradients)
        cloob_step_gradients(s);
    s->micro_batch = 0;
    s->has_gradients = false;
    updater_apply(&s->updater, learning_rate, ema_decay, &update);
    if (update.applied && !updater_writes_copies(&s->updater))
        network_views_refresh(&s->views);
    double numbers[2];
    struct device *d = s->parameters->device;
    d->backend->download(d, numbers, s->numbers->data, sizeof numbers);
    s->cosine = numbers[1];
    bool failed = step_judge(r, &s->updater, &update, numbers[0], isfinite(numbers[0]));
    r->suspects = s->suspects;
    if (!failed)
        return;
    r->suspect_count = find_suspects(s);
    double anywhere = (double)r->suspect_count;
    collective_sum(s->collective, &anywhere, 1);
    if (anywhere == 0) {
        r->suspects = s->samples;
        r->suspect_count = s->options.batch * s->options.accumulate;
    }
}

const struct cloob_step_options *cloob_step_loss_options(const struct cloob_step *s)
{
    return &s->loss_options;
}

double cloob_step_cosine(const struct cloob_step *s)
{
    return s->cosine;
}

void cloob_step_embed(struct cloob_step *s, enum parameter_array which, const struct cloob_batch *b,
                      float *image_embeds, float *text_embeds)
{
    struct cloob *c = network_views_evaluate(&s->views, which);
    int64_t size = cloob_step_sizes(s)->image_size;
    struct tensor *rgb =
        tensor_from_f32(s->parameters->device, DIMS(b->n, 3, size, size), b->images);
    struct tensor *image = cloob_image(&s->image.tape, c, rgb);
    tensor_release(rgb);
    struct tensor *text = cloob_text(&s->text.tape, c, b->tokens, b->n);
    tensor_to_f32(image, image_embeds);
    tensor_to_f32(text, text_embeds);
    tensor_release(image);
    tensor_release(text);
}
