/* The order in which gradients become complete, and that buckets are summed as soon as they are. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/nets/cloob.h"
#include "common/nets/kl.h"
#include "common/nets/unet.h"
#include "common/train/completion.h"
#include "common/train/unet_step.h"
#include "tests/support/synth_nets.h"
#include "tests/support/tap.h"

static struct device *device;

static int64_t offset_of(const struct parameters *p, const char *name)
{
    const struct parameter *t = parameters_find(p, name);
    if (!t)
        die("no tensor '%s'", name);
    return t->offset;
}

static void check_order(const char *what, const struct architecture *architecture, enum net net,
                        const char *early, const char *late)
{
    struct parameters *p = parameters_new(architecture, net, 3, device);
    struct parameters *q = parameters_new(architecture, net, 3, device);
    int *completion = xcalloc((size_t)p->trained_count, sizeof *completion);
    completion_find(p, completion);
    int missing = 0;
    for (int i = 0; i < p->trained_count; i++)
        missing += completion[i] == INT_MAX;
    tap_ok(missing == 0, "%s: the gradients of all %d tensors become complete", what,
           p->trained_count);
    parameters_place(q, collective_alone(), completion);
    tap_ok(offset_of(q, early) < offset_of(q, late), "%s: '%s' is placed before '%s'", what, early,
           late);
    bool same = true;
    for (int i = 0; i < p->count; i++) {
        const struct parameter *a = &p->tensors[i], *b = parameters_find(q, a->name);
        same &= memcmp(parameters_read(p, ARRAY_WEIGHTS, a->offset, a->count, NULL),
                       parameters_read(q, ARRAY_WEIGHTS, b->offset, b->count, NULL),
                       (size_t)a->count * sizeof(float)) == 0 &&
                memcmp(parameters_read(q, ARRAY_EMA, b->offset, b->count, NULL),
                       parameters_read(q, ARRAY_WEIGHTS, b->offset, b->count, NULL),
                       (size_t)a->count * sizeof(float)) == 0;
    }
    tap_ok(same, "%s: weights move with their tensors, EMA is a copy", what);
    free(completion);
    parameters_free(p);
    parameters_free(q);
}

/* What a step asked its collective to do, and how far its backward pass had come. */
#define CALLS_MAX 256
static struct {
    int sums, joins, convolutions;
    const float *own[CALLS_MAX];
    int convolutions_before[CALLS_MAX];
    bool ordered;
} calls;

static void conv2d_backward(struct device *d, const struct conv2d_backward_args *a)
{
    struct backend ref;
    ref_backend_init(&ref);
    calls.convolutions++;
    ref.conv2d_backward(d, a);
}

static void sum_slices(struct collective *c, struct device *d, const struct sum_slices_args *a)
{
    CHECK(calls.sums < CALLS_MAX);
    calls.convolutions_before[calls.sums] = calls.convolutions;
    calls.own[calls.sums++] = a->own;
    calls.ordered &= calls.sums < 2 || a->own > calls.own[calls.sums - 2];
    collective_alone()->functions->sum_slices(c, d, a);
}

static void join(struct collective *c, struct device *d)
{
    calls.joins++;
}

static void check_buckets(bool recompute)
{
    struct unet_config config = {
        .latent_channels = 4, .embed_width = 32, .base_channels = 16, .cond_width = 32};
    memcpy(config.multipliers, (int64_t[]){4, 4, 4, 4}, sizeof config.multipliers);
    struct architecture architecture = {0};
    unet_architecture(&architecture, &config);
    struct parameters *p = parameters_new(&architecture, NET_UNET, 3, device);
    int *completion = xcalloc((size_t)p->trained_count, sizeof *completion);
    completion_find(p, completion);
    struct collective_functions functions = *collective_alone()->functions;
    functions.sum_slices = sum_slices;
    functions.join = join;
    struct collective c = *collective_alone();
    c.functions = &functions;
    parameters_place(p, &c, completion);
    struct step_options o = {
        .batch = 2, .accumulate = 2, .adamw = ADAMW_DEFAULTS, .recompute = recompute};
    struct unet_step_options u = {.autoencoder_scale = 1};
    struct unet_step *s;
    struct error e;
    if (unet_step_open(&s, p, &c, &o, &u, &e) != 0)
        die("%s", e.text);
    float moments[2 * 8 * 64] = {0}, embeds[2 * 32] = {0};
    uint64_t samples[2] = {4, 5};
    struct unet_batch b = {
        .n = 2, .height = 8, .width = 8, .moments = moments, .embeds = embeds, .samples = samples};
    unet_step_micro_batch(s, 0, &b); /* a single rank's first one is not summed, but the sum */
    const struct backend *usual = device->backend;
    struct backend counting = *usual;
    counting.conv2d_backward = conv2d_backward;
    device->backend = &counting;
    calls.sums = calls.joins = calls.convolutions = 0;
    calls.ordered = true;
    unet_step_micro_batch(s, 0, &b);
    device->backend = usual;
    const char *how = recompute ? " with recomputing" : "";
    tap_ok(p->slices.buckets > 4 && calls.sums == p->slices.buckets && calls.joins == 1,
           "each of %d buckets is summed once%s", p->slices.buckets, how);
    tap_ok(calls.ordered, "in the order in which they become complete%s", how);
    int early = 0;
    for (int i = 0; i < calls.sums; i++)
        early += calls.convolutions_before[i] < calls.convolutions;
    tap_ok(early >= calls.sums / 2, "%d of them while the backward pass runs%s", early, how);
    unet_step_close(s);
    parameters_free(p);
    architecture_release(&architecture);
    free(completion);
}

int main(void)
{
    struct unet_config unet = {.latent_channels = 4,
                               .embed_width = 32,
                               .base_channels = 16,
                               .multipliers = {4, 4, 4, 4},
                               .cond_width = 32};
    struct kl_config kl = {
        .latent_channels = 2, .base_channels = 32, .multipliers = {1, 2}, .levels = 2, .blocks = 1};
    struct cloob_config cloob = {.embed_width = 16,
                                 .image_size = 16,
                                 .patch_size = 8,
                                 .image_width = 64,
                                 .image_layers = 1,
                                 .context = 8,
                                 .text_width = 64,
                                 .text_layers = 1,
                                 .vocabulary = 100};
    struct architecture nets[3] = {0};
    struct error e;
    if (device_open(&device, "cpu", &e) != 0)
        die("%s", e.text);
    unet_architecture(&nets[0], &unet);
    kl_architecture(&nets[1], &kl);
    cloob_architecture(&nets[2], &cloob);
    check_order("U-Net", &nets[0], NET_UNET, "net.8.main.4.bias", "net.2.main.0.weight");
    check_order("autoencoder", &nets[1], NET_KL, "decoder.conv_out.weight",
                "encoder.conv_in.weight");
    check_order("CLOOB", &nets[2], NET_CLOOB, "image_encoder.proj.weight",
                "image_encoder.layers.0.attn.query.weight");
    for (int i = 0; i < 3; i++)
        architecture_release(&nets[i]);
    check_buckets(false);
    check_buckets(true);
    device_close(device);
    return tap_done();
}
