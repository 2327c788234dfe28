#include "common/fit/demo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/diffusion/sample.h"
#include "common/images/grid.h"
#include "common/images/grid_parameters.h"
#include "common/train/network_views.h"

#define DEMO_STEPS    50
#define DEMO_GUIDANCE 3

struct demo {
    struct demo_options options;
    struct model *model;
    const struct parameters *parameters;
    struct tape tape;
    struct conditionings prompts;
    char *text; /* lists the prompts with their places in the grid */
    int columns;
};

static int read_prompts(struct demo *d, struct error *e)
{
    const char *path = d->options.prompts;
    if (conditionings_add_file(&d->prompts, path, DEMO_GUIDANCE, e) != 0)
        return -1;
    return d->prompts.count > 0 ? 0 : error_set(e, "'%s' contains no prompts", path);
}

static int open_networks(struct demo *d, const struct shard_info *store, struct error *e)
{
    struct device *device = d->tape.device;
    if (model_open(&d->model, &d->options.model, MODEL_AUTOENCODER | MODEL_CLOOB, device, e) != 0 ||
        model_part_check(&d->model->autoencoder_part, &store->autoencoder, e) != 0 ||
        model_part_check(&d->model->cloob_part, &store->cloob, e) != 0)
        return -1;
    if (conditionings_embed(&d->prompts, &d->tape, d->model->cloob, d->model->cloob_part.path, e) !=
        0)
        return -1;
    model_drop(d->model, MODEL_CLOOB);
    device_trim(device);
    return 0;
}

static struct sample_options sampling(const struct demo *d)
{
    return (struct sample_options){
        .method = SAMPLER_PLMS,
        .steps = DEMO_STEPS,
        .seed = d->options.seed,
        .count = 1,
        .consecutive = true,
        .height = d->options.height,
        .width = d->options.width,
        .guidance_start = 1,
        .embed_noise = d->options.embed_noise,
        .autoencoder_scale = d->options.autoencoder_scale,
        .batch_size = (int)d->options.batch,
    };
}

/* Indented lines, which Markdown does not format. */
static char *list_prompts(const struct demo *d)
{
    char *text;
    size_t size;
    FILE *f = xallocated(open_memstream(&text, &size));
    for (int i = 0; i < d->prompts.count; i++) {
        const struct conditioning *c = &d->prompts.items[i];
        fprintf(f, "    (%d, %d) %s", i / d->columns, i % d->columns, c->label);
        if (c->guidance != DEMO_GUIDANCE)
            fprintf(f, ":%.9g", c->guidance);
        fprintf(f, "\n");
    }
    if (fclose(f) != 0)
        die("out of memory");
    return text;
}

static int check_network(const struct demo *d, struct error *e)
{
    struct sample_options sample = sampling(d);
    struct network_view unet = {0};
    int status = network_view_open(&unet, &unet_network, d->parameters, ARRAY_WEIGHTS, e);
    if (status == 0)
        status = sample_check(&sample, unet.network, d->model->kl, e);
    network_view_release(&unet);
    return status;
}

static int open_all(struct demo *d, const struct shard_info *store, struct error *e)
{
    if (read_prompts(d, e) != 0 || open_networks(d, store, e) != 0)
        return -1;
    if (check_network(d, e) != 0)
        return -1;
    int64_t columns =
        d->options.columns ? d->options.columns : grid_default_columns(d->prompts.count);
    d->columns = columns < d->prompts.count ? (int)columns : d->prompts.count;
    d->text = list_prompts(d);
    return 0;
}

int demo_open(struct demo **out, const struct demo_options *o, const struct parameters *p,
              const struct shard_info *store, struct error *e)
{
    struct demo *d = xcalloc(1, sizeof *d);
    d->options = *o;
    d->parameters = p;
    tape_init(&d->tape, p->device);
    if (open_all(d, store, e) != 0) {
        demo_close(d);
        return -1;
    }
    *out = d;
    return 0;
}

void demo_close(struct demo *d)
{
    if (!d)
        return;
    model_close(d->model);
    conditionings_release(&d->prompts);
    tape_release(&d->tape);
    free(d->text);
    free(d);
}

static char *demo_path(const char *run, int64_t step)
{
    return xasprintf("%s/demo/%08" PRId64 ".png", run, step);
}

bool demo_exists(const char *run, int64_t step)
{
    char *path = demo_path(run, step);
    bool exists = file_exists(path);
    free(path);
    return exists;
}

struct drawing {
    const struct demo *demo;
    const struct sample_options *sample;
    int64_t step;
    struct grid grid;
};

/* A sample_emit. */
static int add_image(void *context, const struct image *image, int conditioning, int64_t index,
                     struct error *e)
{
    struct drawing *w = context;
    struct image copy;
    if (image_new(&copy, image->width, image->height, image->channels, image->depth, e) != 0)
        return -1;
    memcpy(copy.pixels, image->pixels, image_bytes(image));
    struct image_remarks remarks = {0};
    char model[32];
    snprintf(model, sizeof model, "step %" PRId64, w->step);
    sample_remarks(&remarks, w->sample, &w->demo->prompts.items[conditioning], index, model);
    return grid_add(&w->grid, &copy, &remarks, "a demo image", e);
}

static int encode_grid(uint8_t **png, size_t *size, const struct grid *g, int columns,
                       struct error *e)
{
    struct image sheet = {0};
    if (grid_draw(&sheet, g, columns, 0, e) != 0)
        return -1;
    struct image_text text = {"parameters", grid_parameters(g)};
    int status = png_encode(png, size, &sheet, &text, text.value ? 1 : 0, -1, e);
    free(text.value);
    image_release(&sheet);
    return status;
}

int demo_keep(const struct grid *g, int columns, const char *run, int64_t step, struct metrics *m,
              struct error *e)
{
    uint8_t *png = NULL;
    size_t size = 0;
    char *folder = path_join(run, "demo"), *path = demo_path(run, step);
    int status = encode_grid(&png, &size, g, columns, e);
    if (status == 0)
        status = make_directories(folder, e);
    if (status == 0)
        status = file_write(path, png, size, e);
    if (status == 0)
        status = metrics_image(m, step, "demo", path + strlen(run) + 1, png, size, e);
    free(png);
    free(folder);
    free(path);
    return status;
}

int demo_make(struct demo *d, const char *run, int64_t step, struct metrics *m,
              const volatile sig_atomic_t *stop, struct error *e)
{
    struct sample_options sample = sampling(d);
    sample.stop = stop;
    struct network_view unet = {0};
    struct drawing w = {.demo = d, .sample = &sample, .step = step};
    int status = network_view_open(&unet, &unet_network, d->parameters, ARRAY_EMA, e);
    if (status == 0) {
        loader_refresh(network_view_loader(&unet));
        status = sample_run(&d->tape, &sample, unet.network, d->model->kl, &d->prompts, add_image,
                            &w, e);
    }
    bool stopped = status != 0 && *stop;
    if (status == 0)
        status = demo_keep(&w.grid, d->columns, run, step, m, e);
    if (status == 0)
        status = metrics_text(m, step, "demo/prompts", d->text, e);
    grid_release(&w.grid);
    network_view_release(&unet);
    device_trim(d->tape.device);
    return stopped ? 1 : status;
}
