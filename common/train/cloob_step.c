#include "common/train/cloob_step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/train/loss.h"
#include "common/train/network_views.h"
#include "kernels/tape.h"

/* One side of the pairs. */
struct side {
    struct tape tape;
    struct tensor *last;   /* embeddings [batch, d] of the last micro-batch, recorded on the tape */
    struct tensor *embeds; /* [effective batch, d] of all ranks' micro-batches */
    struct tensor *gradient; /* of the loss by embeds, times the loss scale */
};

struct cloob_step {
    struct parameters *parameters;
    struct collective *collective;
    struct step_options options;
    struct cloob_step_options loss_options;
    struct network_views views;
    struct side image, text;
    bool image_is_fixed;
    float *images;   /* [batch * (accumulate - 1), 3, S, S]: of the micro-batches that run twice;
                        none if the image tower is fixed */
    int32_t *tokens; /* of those micro-batches, always kept */
    uint64_t *samples;
    int64_t micro_batch; /* those done so far in this update */
    bool has_gradients;
    struct tensor *held; /* the gradient of the last micro-batch; NULL: it is the only one */
    double loss, cosine;
    struct updater updater;
    uint64_t *suspects;
};

static void side_release(struct side *s)
{
    tape_release(&s->tape);
    tensor_release(s->last);
    tensor_release(s->embeds);
    tensor_release(s->gradient);
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
    if (o->accumulate > 1)
        s->held = tensor_new(p->device, DTYPE_F32, DIMS(p->trained_elements));
    int64_t all = step_effective_batch(o, c), width = cloob_step_sizes(s)->embed_width;
    s->image.embeds = tensor_new(p->device, DTYPE_F32, DIMS(all, width));
    s->text.embeds = tensor_new(p->device, DTYPE_F32, DIMS(all, width));
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
    side_release(&s->image);
    side_release(&s->text);
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

static struct tensor *run_image(struct cloob_step *s, const struct cloob *c, int64_t n,
                                const float *images)
{
    int64_t size = cloob_sizes(c)->image_size;
    struct tensor *rgb = tensor_new(s->parameters->device, DTYPE_F32, DIMS(n, 3, size, size));
    tensor_upload(rgb, images);
    struct tensor *embeds = cloob_image(&s->image.tape, c, rgb);
    tensor_release(rgb);
    return embeds;
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

static void put_embeds(const struct cloob_step *s, struct side *side, const struct tensor *embeds)
{
    struct tensor *place = rows_of(s, side->embeds, s->micro_batch);
    tensor_copy(place, embeds);
    tensor_release(place);
}

void cloob_step_micro_batch(struct cloob_step *s, const struct cloob_batch *b)
{
    const struct step_options *o = &s->options;
    int64_t k = s->micro_batch, pixels = image_elements(s), context = cloob_step_sizes(s)->context;
    CHECK(b->n == o->batch && k < o->accumulate);
    struct cloob *c = network_views_train(&s->views);
    s->has_gradients = false;
    memcpy(s->samples + k * b->n, b->samples, (size_t)b->n * sizeof *s->samples);
    bool last = k == o->accumulate - 1;
    if (!last && !s->image_is_fixed)
        memcpy(s->images + k * b->n * pixels, b->images,
               (size_t)(b->n * pixels) * sizeof *s->images);
    if (!last)
        memcpy(s->tokens + k * b->n * context, b->tokens,
               (size_t)(b->n * context) * sizeof *s->tokens);
    set_training(s, true, last);
    struct tensor *image = run_image(s, c, b->n, b->images);
    struct tensor *text = cloob_text(&s->text.tape, c, b->tokens, b->n);
    set_training(s, false, false);
    put_embeds(s, &s->image, image);
    put_embeds(s, &s->text, text);
    s->micro_batch++;
    if (last) {
        s->image.last = image;
        s->text.last = text;
        return;
    }
    tensor_release(image);
    tensor_release(text);
}

static double mean_cosine(const float *x, const float *y, int64_t n, int64_t d)
{
    double sum = 0;
    for (int64_t i = 0; i < n * d; i++)
        sum += (double)x[i] * y[i];
    return sum / (double)n;
}

static void scale_gradient(const struct cloob_step *s, struct tensor *t)
{
    if (s->updater.loss_scale.scale == 1)
        return;
    struct device *d = s->parameters->device;
    struct linear_combination_args args = {
        .count = 1, .x = {t}, .coefficients = {(float)s->updater.loss_scale.scale}, .y = t};
    d->backend->linear_combination(d, &args);
}

/* Fills in the rows of the other ranks. */
static void gather_embeds(const struct cloob_step *s, struct side *side)
{
    const struct step_options *o = &s->options;
    size_t ranks = (size_t)s->collective->size, accumulate = (size_t)o->accumulate;
    size_t part = (size_t)(o->batch * tensor_last(side->embeds)), own = part * accumulate;
    float *rows = tensor_to_host(side->embeds), *mine = xmalloc(own * sizeof *mine),
          *all = xmalloc(ranks * own * sizeof *all);
    for (size_t k = 0; k < accumulate; k++)
        memcpy(mine + k * part, rows + (k * ranks + (size_t)s->collective->rank) * part,
               part * sizeof *rows);
    collective_gather(s->collective, mine, all, own * sizeof *mine);
    for (size_t k = 0; k < accumulate; k++)
        for (size_t r = 0; r < ranks; r++)
            memcpy(rows + (k * ranks + r) * part, all + r * own + k * part, part * sizeof *rows);
    tensor_upload(side->embeds, rows);
    free(rows);
    free(mine);
    free(all);
}

/* Computes the loss of all ranks' embeddings, the same on every rank. */
static void find_loss(struct cloob_step *s)
{
    if (s->collective->size > 1) {
        gather_embeds(s, &s->image);
        gather_embeds(s, &s->text);
    }
    struct cloob_loss loss;
    cloob_loss(&loss, s->image.embeds, s->text.embeds, s->loss_options.inv_tau,
               s->loss_options.scale_hopfield);
    s->loss = loss.total;
    s->image.gradient = loss.dimage;
    s->text.gradient = loss.dtext;
    scale_gradient(s, s->image.gradient);
    scale_gradient(s, s->text.gradient);
    float *x = tensor_to_host(s->image.embeds), *y = tensor_to_host(s->text.embeds);
    s->cosine = mean_cosine(x, y, step_effective_batch(&s->options, s->collective),
                            tensor_last(s->image.embeds));
    free(x);
    free(y);
}

/* watched: the next backward passes complete a micro-batch's gradient, which is not held. */
static void fresh_gradients(struct cloob_step *s, bool watched)
{
    tape_fresh_gradients(&s->image.tape);
    tape_fresh_gradients(&s->text.tape);
    if (watched) {
        updater_aim(&s->updater, network_view_loader(&s->views.trained));
        updater_watch(&s->updater, &s->image.tape);
        updater_watch(&s->updater, &s->text.tape);
    }
}

/* Backward of micro-batch k, which is recorded on the tape. Releases embeds. */
static void run_back(const struct cloob_step *s, struct side *side, struct tensor *embeds,
                     int64_t k)
{
    if (side == &s->image && s->image_is_fixed) {
        tensor_release(embeds);
        return;
    }
    struct tensor *rows = rows_of(s, side->gradient, k);
    tape_backward(&side->tape, embeds, rows);
    tensor_release(rows);
    tensor_release(embeds);
}

/* The last micro-batch ran forward with records; its gradient waits until those of the others,
 * which run a second time, are added before it. */
void cloob_step_gradients(struct cloob_step *s)
{
    const struct step_options *o = &s->options;
    int64_t pixels = image_elements(s), context = cloob_step_sizes(s)->context;
    CHECK(s->micro_batch == o->accumulate);
    find_loss(s);
    if (s->held)
        parameters_aim(s->parameters, network_view_loader(&s->views.trained), false);
    fresh_gradients(s, !s->held);
    run_back(s, &s->image, s->image.last, o->accumulate - 1);
    run_back(s, &s->text, s->text.last, o->accumulate - 1);
    s->image.last = s->text.last = NULL;
    if (s->held)
        tensor_copy(s->held, s->parameters->micro_gradients);
    for (int64_t k = 0; k < o->accumulate - 1; k++) {
        struct cloob *c = s->views.trained.network;
        struct tensor *image = NULL;
        fresh_gradients(s, true);
        set_training(s, true, true);
        if (!s->image_is_fixed)
            image = run_image(s, c, o->batch, s->images + k * o->batch * pixels);
        struct tensor *text =
            cloob_text(&s->text.tape, c, s->tokens + k * o->batch * context, o->batch);
        set_training(s, false, false);
        run_back(s, &s->image, image, k);
        run_back(s, &s->text, text, k);
        updater_add(&s->updater);
    }
    if (s->held) {
        updater_aim(&s->updater, network_view_loader(&s->views.trained));
        tensor_copy(s->parameters->micro_gradients, s->held);
    }
    updater_add(&s->updater);
    tensor_release(s->image.gradient);
    tensor_release(s->text.gradient);
    s->image.gradient = s->text.gradient = NULL;
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
    if (update.applied)
        network_views_refresh(&s->views);
    bool failed = step_judge(r, &s->updater, &update, s->loss, isfinite(s->loss));
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

double cloob_step_cosine(const struct cloob_step *s)
{
    return s->cosine;
}

void cloob_step_embed(struct cloob_step *s, enum parameter_array which, const struct cloob_batch *b,
                      float *image_embeds, float *text_embeds)
{
    struct cloob *c = network_views_evaluate(&s->views, which);
    struct tensor *image = run_image(s, c, b->n, b->images);
    struct tensor *text = cloob_text(&s->text.tape, c, b->tokens, b->n);
    tensor_to_f32(image, image_embeds);
    tensor_to_f32(text, text_embeds);
    tensor_release(image);
    tensor_release(text);
}

/* The fraction of rows i of x whose nearest row of y is row i. */
static double recall(const float *x, const float *y, int64_t n, int64_t d)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        double own = NAN, most = -INFINITY;
        for (int64_t j = 0; j < n; j++) {
            double cosine = mean_cosine(x + i * d, y + j * d, 1, d);
            if (i == j)
                own = cosine;
            else
                most = fmax(most, cosine);
        }
        found += own > most;
    }
    return (double)found / (double)n;
}

struct cloob_scores cloob_step_score(struct cloob_step *s, const float *image_embeds,
                                     const float *text_embeds, int64_t n)
{
    int64_t d = cloob_step_sizes(s)->embed_width;
    struct tensor *image = tensor_from_f32(s->parameters->device, DIMS(n, d), image_embeds);
    struct tensor *text = tensor_from_f32(s->parameters->device, DIMS(n, d), text_embeds);
    struct cloob_loss loss;
    cloob_loss(&loss, image, text, s->loss_options.inv_tau, s->loss_options.scale_hopfield);
    tensor_release(image);
    tensor_release(text);
    tensor_release(loss.dimage);
    tensor_release(loss.dtext);
    return (struct cloob_scores){
        .loss = loss.total,
        .cosine = mean_cosine(image_embeds, text_embeds, n, d),
        .image_to_text = recall(image_embeds, text_embeds, n, d),
        .text_to_image = recall(text_embeds, image_embeds, n, d),
    };
}

static void dry_batch(struct cloob_batch *b, const struct cloob_step *s, int64_t n)
{
    *b = (struct cloob_batch){
        .n = n,
        .images = xcalloc((size_t)(n * image_elements(s)), sizeof(float)),
        .tokens = xcalloc((size_t)(n * cloob_step_sizes(s)->context), sizeof(int32_t)),
        .samples = xcalloc((size_t)n, sizeof(uint64_t)),
    };
}

static void dry_batch_release(struct cloob_batch *b)
{
    free((void *)b->images);
    free((void *)b->tokens);
    free((void *)b->samples);
}

int64_t cloob_step_memory(const struct architecture *architecture, const struct step_options *o,
                          const struct cloob_step_options *l, const struct device *like, int ranks,
                          int64_t evaluated)
{
    struct device *d = device_open_dry(like);
    struct collective dry = collective_dry(ranks);
    struct parameters *p = parameters_empty(architecture, NET_CLOOB, d);
    struct cloob_step *s;
    struct cloob_batch batch;
    struct error e;
    CHECK(cloob_step_open(&s, p, &dry, o, l, &e) == 0);
    dry_batch(&batch, s, o->batch);
    for (int64_t i = 0; i < o->accumulate; i++)
        cloob_step_micro_batch(s, &batch);
    dry_batch_release(&batch);
    struct step_result r;
    cloob_step_update(s, 0, 0, &r);
    if (evaluated > 0) {
        int64_t width = cloob_step_sizes(s)->embed_width;
        float *embeds = xcalloc((size_t)(2 * evaluated * width), sizeof *embeds);
        dry_batch(&batch, s, evaluated);
        cloob_step_embed(s, ARRAY_EMA, &batch, embeds, embeds + evaluated * width);
        dry_batch_release(&batch);
        free(embeds);
    }
    int64_t bytes = device_dry_memory(d);
    cloob_step_close(s);
    parameters_free(p);
    device_close(d);
    return bytes;
}
