/* Trains CLOOB on pairs of picture and caption. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/fit/cloob.h"
#include "common/fit/program.h"
#include "common/program/device.h"
#include "common/run/options.h"
#include "formats/images/image.h"
#include "formats/text/clip_bpe.h"

static struct {
    struct fit_tool_options run;
    struct net_sizes net;
    int64_t size, max_pixels;
    double inv_tau, scale_hopfield;
    bool text_only, flip, null_separated, pil_compat;
} options = {
    .run = {FIT_TOOL_DEFAULTS, .betas = "0.9,0.98", .batch_size = 128, .lr = 1e-4,
            .lr_schedule = LEARNING_RATE_COSINE, .warmup = 2000, .weight_decay = 0.1},
    .net = {.embed = 512,
            .image_size = 224,
            .patch = 16,
            .image_width = 768,
            .image_layers = 12,
            .text_positions = 77,
            .text_width = 512,
            .text_layers = 12,
            .vocabulary = CLIP_BPE_VOCABULARY_MAX},
    .max_pixels = IMAGE_DEFAULT_MAX_PIXELS,
    .inv_tau = CLOOB_INV_TAU,
    .scale_hopfield = CLOOB_SCALE_HOPFIELD,
};

#define EPSILON 1e-6 /* of AdamW, as the reference has it */

static const struct option option_table[] = {
    FIT_TOOL_OPTIONS_BEGIN(options.run),
    {"inv-tau", 0, OPTION_FLOAT, &options.inv_tau, "X", "inverse temperature of InfoLOOB", 1e-3,
     1e4, NULL},
    {"scale-hopfield", 0, OPTION_FLOAT, &options.scale_hopfield, "X",
     "inverse temperature of the Hopfield retrieval", 0, 1e4, NULL},
    {"image-size", 0, OPTION_INT, &options.net.image_size, "N", "side of what the network sees", 1,
     4096, NULL},
    {"patch-size", 0, OPTION_INT, &options.net.patch, "N", "side of a patch", 1, 4096, NULL},
    {"width", 0, OPTION_INT, &options.net.image_width, "N", "of the image tower", 64, 65536, NULL},
    {"layers", 0, OPTION_INT, &options.net.image_layers, "N", "of the image tower", 1, 128, NULL},
    {"text-width", 0, OPTION_INT, &options.net.text_width, "N", "of the text tower", 64, 65536,
     NULL},
    {"text-layers", 0, OPTION_INT, &options.net.text_layers, "N", "of the text tower", 1, 128,
     NULL},
    {"context", 0, OPTION_INT, &options.net.text_positions, "N", "tokens of a text, 2 for its ends",
     3, 65536, NULL},
    {"vocabulary", 0, OPTION_INT, &options.net.vocabulary, "N",
     "tokens there are: 514 and CLIP's first merges", 514, CLIP_BPE_VOCABULARY_MAX, NULL},
    {"embed", 0, OPTION_INT, &options.net.embed, "N", "numbers of an embed", 1, 65536, NULL},
    {"size", 0, OPTION_INT, &options.size, "N",
     "make pictures of this side first, as ccld-encode does, 0 for --image-size", 0, 65536, NULL},
    {"text-only", 0, OPTION_FLAG, &options.text_only, NULL,
     "train the text tower only: embeds of pictures stay valid", 0, 0, NULL},
    {"flip", 0, OPTION_FLAG, &options.flip, NULL, "mirror every other picture, drawn anew", 0, 0,
     NULL},
    {"null", '0', OPTION_FLAG, &options.null_separated, NULL,
     "the list's entries end with a zero byte", 0, 0, NULL},
    {"pil-compat", 0, OPTION_FLAG, &options.pil_compat, NULL,
     "colours as the reference reads them: no rotation, no profile, no opacity", 0, 0, NULL},
    {"max-pixels", 0, OPTION_INT, &options.max_pixels, "N", "refuse larger images", 1, 1e12, NULL},
    {"seed", 0, OPTION_SEED, &options.run.seed, "S", "of weights and order", 0, 0, NULL},
    FIT_TOOL_OPTIONS_END(options.run),
    {0},
};

static const struct program program = {
    .name = "ccld-fit-cloob",
    .summary = "Trains CLOOB on the pictures and captions that standard input lists:\n"
               "PATH<tab>CAPTION, or PATH with the caption in PATH.txt or beside it.\n"
               "SIGTERM, SIGINT and SIGUSR1 make it write a checkpoint and end.",
    .usage = "[OPTION]... -o RUN < PAIRS\n[OPTION]... --resume RUN|CKPT [-o RUN]",
    .options = option_table,
};

#define ARCHITECTURE                                                                               \
    "image-size", "patch-size", "width", "layers", "text-width", "text-layers", "context",         \
        "vocabulary", "embed"
static const char *const architecture_options[] = {ARCHITECTURE, NULL};
static const char *const fixed_by_resume[] = {ARCHITECTURE, "text-only", NULL};
/* What a checkpoint does not keep. */
static const char *const not_saved[] = {"output", "resume", "null", NULL};
static const char *const not_saved_with_init_from[] = {"output", "resume", "null", ARCHITECTURE,
                                                       NULL};

/* The pairs, in the run's folder. */
#define LIST "pairs.list"

static void check_sizes(void)
{
    const struct net_sizes *n = &options.net;
    if (n->image_size % n->patch != 0)
        die_usage("--image-size %" PRId64 " is no multiple of --patch-size %" PRId64, n->image_size,
                  n->patch);
    if (n->image_width % 64 != 0 || n->text_width % 64 != 0)
        die_usage("--%s %" PRId64 ": widths are multiples of 64",
                  n->image_width % 64 ? "width" : "text-width",
                  n->image_width % 64 ? n->image_width : n->text_width);
    if (options.run.batch_size * options.run.accumulate < 2)
        die_usage("a pair is held against others: --batch-size times --accumulate must be 2 or "
                  "more");
}

static struct parameters *make_parameters(const struct fit_tool_origin *o, struct device *device)
{
    struct error e;
    struct parameters *p;
    if (o->at.checkpoint) {
        if (checkpoint_load_parameters(&p, &o->saved, o->at.checkpoint, device, &e) != 0)
            die("cannot go on from '%s': %s", o->at.checkpoint, e.text);
        return p;
    }
    if (options.run.init_from) {
        bool (*fixed)(const char *) = options.text_only ? cloob_is_image_tower : NULL;
        if (fit_read_weights(&p, options.run.init_from, NET_CLOOB, fixed, device, &e) != 0)
            die("%s", e.text);
        return p;
    }
    struct architecture architecture = {0};
    cloob_architecture(&architecture, &options.net);
    p = parameters_new(&architecture, NET_CLOOB, options.run.seed, device);
    architecture_release(&architecture);
    return p;
}

static struct image_set_options set_options(const struct cloob_sizes *sizes)
{
    int side = (int)(options.size ? options.size : sizes->image_size);
    return (struct image_set_options){
        .height = side,
        .width = side,
        .color = options.pil_compat ? PREPARE_PIL : PREPARE_DISPLAY,
        .max_pixels = options.max_pixels,
        .holdout = options.run.holdout,
        .captions = true,
        .cache_bytes = IMAGE_SET_CACHE_DEFAULT,
    };
}

/* A run that goes on has its list; what is on standard input is not looked at. */
static struct image_set *open_images(const struct fit_tool_origin *o,
                                     const struct cloob_sizes *sizes)
{
    struct image_set_options set = set_options(sizes);
    struct image_set *s;
    struct error e;
    if (o->at.checkpoint) {
        char *list = path_join(o->at.run, LIST);
        if (image_set_reopen(&s, list, &set, &e) != 0)
            die("cannot go on from '%s': %s", o->at.checkpoint, e.text);
        free(list);
        return s;
    }
    if (isatty(STDIN_FILENO))
        die_usage("no pairs: give a list on standard input");
    struct path_source list;
    path_source_stream(&list, STDIN_FILENO, options.null_separated ? '\0' : '\n');
    if (image_set_open(&s, &list, &set, &e) != 0)
        die("cannot train: %s", e.text);
    path_source_release(&list);
    return s;
}

static void prepare_data(struct fit_cloob *f, const struct fit_tool_origin *o,
                         const struct cloob_sizes *sizes)
{
    struct error e;
    int64_t effective = f->options.batch * f->options.accumulate * f->collective->size;
    f->images = open_images(o, sizes);
    const struct order *order = image_set_order(f->images);
    if (order_steps_per_epoch(order, effective) == 0)
        die("cannot train: %" PRId64 " pairs to train on do not fill an effective batch of "
            "%" PRId64,
            order_training_count(order), effective);
    const struct image_set_options *set = image_set_options(f->images);
    struct fit_data data = {.order = order};
    data.store.image_height = set->height;
    data.store.image_width = set->width;
    data.store.embed_size = (int)sizes->embed_width;
    data.store.embed_dtype = DTYPE_F32;
    strcpy(data.store.preprocessing, set->color == PREPARE_PIL ? "pil" : "display");
    image_set_hash(data.hash, f->images);
    if (o->at.checkpoint && fit_check_data(f->state, &o->saved, &data, effective, &e) != 0)
        die("cannot go on from '%s' with these data: %s", o->at.checkpoint, e.text);
    fit_fill_state(f->state, &data);
    f->state->seed = options.run.seed;
    saved_options_store(f->state, &program,
                        options.run.init_from ? not_saved_with_init_from : not_saved);
    if (f->options.rate.steps == 0)
        f->options.rate.steps = options.run.epochs * order_steps_per_epoch(order, effective);
}

static void open_run(struct fit_cloob *f, const struct fit_tool_origin *o, const char *folder)
{
    struct error e;
    if (fit_open_run(&f->run, &f->options.saved, folder, &o->at, checkpoint_bytes(f->parameters),
                     &e))
        die("cannot train in '%s': %s", folder, e.text);
    char *list = path_join(folder, LIST);
    if (!f->options.saved && image_set_save(f->images, list, &e) != 0)
        die("cannot write '%s': %s", list, e.text);
    free(list);
}

static void announce(const struct fit_cloob *f, const struct fit_tool_origin *o)
{
    int64_t memory = fit_cloob_memory(f);
    struct error e;
    if (fit_cloob_check_memory(f, memory, &e) != 0)
        die("too little memory to train: %s", e.text);
    fit_cloob_announce(f, memory);
    fit_tool_announce_origin(o);
    if (options.text_only)
        inform("text tower only");
}

static int run_fit(const void *context, enum fit_end *end, struct error *e)
{
    return fit_cloob_run(context, end, e);
}

static void set_step(struct fit_cloob *f, const struct adamw_options *adamw)
{
    f->options.rate.exponential_warmup = true;
    f->step = (struct cloob_step_options){
        .batch = f->options.batch,
        .accumulate = f->options.accumulate,
        .inv_tau = options.inv_tau,
        .scale_hopfield = options.scale_hopfield,
        .clip_grad = options.run.clip_grad,
        .adamw = *adamw,
    };
    f->step.adamw.epsilon = EPSILON;
    f->seed = options.run.seed;
    f->flip = options.flip;
}

int main(int argc, char **argv)
{
    if (options_parse(&program, argc, argv) > 0)
        die_usage("operand '%s': the list of pairs comes on standard input", argv[1]);
    struct fit_tool_origin origin = {0};
    struct training_state state;
    struct adamw_options adamw;
    struct cloob_sizes sizes;
    struct error e;
    fit_tool_read_origin(&origin, &options.run, &program, fixed_by_resume, not_saved);
    const char *folder = fit_tool_run_folder(&options.run, &origin, architecture_options);
    if (options.text_only && !options.run.init_from && !origin.at.checkpoint)
        die_usage("--text-only needs an image tower: give --init-from");
    check_sizes();
    fit_tool_prepare_state(&state, &origin);
    struct fit_cloob fit = {.options = fit_tool_loop_options(&options.run, &adamw),
                            .collective = collective_alone(),
                            .state = &state,
                            .stop = &fit_tool_stop};
    fit.options.resumed = origin.at.checkpoint != NULL;
    set_step(&fit, &adamw);
    struct device *device = program_open_device();
    device->advice = "a smaller --batch-size with more --accumulate";
    fit.parameters = make_parameters(&origin, device);
    if (fit_cloob_sizes(&sizes, fit.parameters, &e) != 0)
        die("cannot train this network: %s", e.text);
    prepare_data(&fit, &origin, &sizes);
    open_run(&fit, &origin, folder);
    announce(&fit, &origin);
    int64_t effective = fit.options.batch * fit.options.accumulate * fit.collective->size;
    fit_tool_train(&state, fit.run, effective, run_fit, &fit);

    run_close(fit.run);
    parameters_free(fit.parameters);
    device_close(device);
    image_set_close(fit.images);
    collective_close(fit.collective);
    training_state_release(&state);
    fit_tool_release_origin(&origin);
    return 0;
}
