#include "common/score/embedder.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "kernels/ops.h"

int embedder_check(const struct embedder *m, const char *path, struct error *e)
{
    return cloob_sizes(m->cloob)->has_image ? 0 : error_set(e, "'%s' has no image tower", path);
}

struct preparing {
    const struct embedder *m;
    struct image *images;
    float *squares;       /* [n, 3, side, side] */
    struct error *errors; /* [n]; empty texts where nothing has failed */
};

/* As ccld-encode does: the autoencoder's image in between. */
static void square_of(float *square, int side, const struct image *fitted)
{
    size_t n = 3 * (size_t)fitted->width * (size_t)fitted->height;
    float *x = xmalloc(n * sizeof *x);
    prepare_to_float(x, fitted);
    prepare_middle_square(square, side, x, fitted->height, fitted->width);
    free(x);
}

static int prepare(const struct embedder *m, float *square, struct image *image, struct error *e)
{
    int side = (int)cloob_sizes(m->cloob)->image_size;
    struct size2d s = m->size;
    struct image fitted = {0};
    bool direct = s.height == 0;
    if (prepare_color(image, m->color, e) != 0)
        return -1;
    int status = direct ? prepare_cover(&fitted, image, side, side, e)
                        : prepare_data(&fitted, image, s.width, s.height, e);
    if (status != 0)
        return -1;
    if (direct)
        prepare_to_float(square, &fitted);
    else
        square_of(square, side, &fitted);
    image_release(&fitted);
    return 0;
}

static void prepare_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const struct preparing *p = arg;
    int64_t side = cloob_sizes(p->m->cloob)->image_size;
    for (int64_t i = begin; i < end; i++) {
        p->errors[i].text[0] = 0;
        prepare(p->m, p->squares + 3 * i * side * side, &p->images[i], &p->errors[i]);
        image_release(&p->images[i]);
    }
}

static int run_batch(const struct embedder *m, float *out, struct image *images,
                     const char *const *names, int64_t n, struct error *e)
{
    int64_t side = cloob_sizes(m->cloob)->image_size;
    struct preparing p = {.m = m, .images = images};
    int status = 0;
    p.squares = xmalloc(3 * (size_t)(n * side * side) * sizeof *p.squares);
    p.errors = xmalloc((size_t)n * sizeof *p.errors);
    parallel_for(n, 1, prepare_some, &p);
    for (int64_t i = 0; i < n && status == 0; i++)
        if (p.errors[i].text[0])
            status = error_set(e, "cannot prepare %s: %s", names[i], p.errors[i].text);
    if (status == 0) {
        struct tensor *squares =
            tensor_from_f32(m->tape->device, DIMS(n, 3, side, side), p.squares);
        struct tensor *embeds = cloob_image(m->tape, m->cloob, squares);
        tensor_to_f32(embeds, out);
        tensor_release(embeds);
        tensor_release(squares);
    }
    free(p.squares);
    free(p.errors);
    return status;
}

int embedder_run(const struct embedder *m, float *out, struct image *images,
                 const char *const *names, int64_t n, struct error *e)
{
    int64_t width = cloob_sizes(m->cloob)->embed_width;
    int status = 0;
    for (int64_t i = 0; i < n; i += m->batch) {
        int64_t count = n - i < m->batch ? n - i : m->batch;
        if (status == 0)
            status = run_batch(m, out + i * width, images + i, names + i, count, e);
        for (int64_t j = i; j < i + count; j++)
            image_release(&images[j]);
    }
    return status;
}
