#include "common/score/embed_input.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/progress.h"

/* Images that go through the tower together. */
struct batch {
    int64_t n, done;
    struct image *images;
    struct embedded *items;
    char **names, **paths;
    float *embeds;
};

static void batch_init(struct batch *b, const struct embedder *m)
{
    size_t n = (size_t)m->batch;
    *b = (struct batch){.images = xcalloc(n, sizeof *b->images),
                        .items = xcalloc(n, sizeof *b->items),
                        .names = xcalloc(n, sizeof *b->names),
                        .paths = xcalloc(n, sizeof *b->paths)};
    b->embeds = xmalloc(n * (size_t)cloob_sizes(m->cloob)->embed_width * sizeof *b->embeds);
}

static void batch_clear(struct batch *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        image_release(&b->images[i]);
        image_release(&b->items[i].image);
        image_remarks_release(&b->items[i].remarks);
        free(b->names[i]);
        free(b->paths[i]);
    }
    b->n = 0;
}

static void batch_release(struct batch *b)
{
    batch_clear(b);
    free(b->images);
    free(b->items);
    free(b->names);
    free(b->paths);
    free(b->embeds);
}

static int copy_image(struct image *copy, const struct image *image, struct error *e)
{
    if (image_new(copy, image->width, image->height, image->channels, image->depth, e) != 0)
        return -1;
    memcpy(copy->pixels, image->pixels, image_bytes(image));
    return 0;
}

/* Returns 1, or 0 after the last image. */
static int batch_read(struct batch *b, struct image_input *source, bool keep, struct error *e)
{
    struct embedded *x = &b->items[b->n];
    int got = image_input_next(source, &b->images[b->n], &x->remarks, e);
    if (got <= 0)
        return got;
    b->paths[b->n] = source->path ? xstrdup(source->path) : NULL;
    if (!source->stream.file)
        b->names[b->n] = xstrdup(source->path);
    else if (source->path)
        b->names[b->n] = xasprintf("%s, image %" PRId64, source->path, source->stream.count);
    else
        b->names[b->n] = xasprintf("image %" PRId64, source->stream.count);
    b->n++;
    if (keep && copy_image(&x->image, &b->images[b->n - 1], e) != 0)
        return error_prefix(e, "%s", source->name);
    return 1;
}

static int batch_run(struct batch *b, const struct embedder *m, embedded_emit *emit, void *context,
                     struct error *e)
{
    int64_t width = cloob_sizes(m->cloob)->embed_width;
    int status = embedder_run(m, b->embeds, b->images, (const char *const *)b->names, b->n, e);
    for (int64_t i = 0; i < b->n && status == 0; i++) {
        struct embedded *x = &b->items[i];
        x->embed = b->embeds + i * width;
        x->name = b->names[i];
        x->path = b->paths[i];
        status = emit(context, x, e);
    }
    b->done += b->n;
    batch_clear(b);
    return status;
}

int embed_input(const struct embedder *m, struct image_input *source, bool keep, const char *label,
                int64_t expected, embedded_emit *emit, void *context, struct error *e)
{
    struct batch b;
    struct progress *progress = progress_start(label, "images", expected);
    int got = 1;
    batch_init(&b, m);
    while (got > 0) {
        got = batch_read(&b, source, keep, e);
        bool due = b.n == m->batch || (got == 0 && b.n > 0);
        if (got >= 0 && due && batch_run(&b, m, emit, context, e) != 0)
            got = -1;
        progress_update(progress, b.done, NULL);
    }
    batch_release(&b);
    progress_finish(progress);
    return got;
}
