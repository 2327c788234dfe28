#include "formats/weights/weights_write.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "formats/weights/safetensors.h"
#include "formats/weights/torch_write.h"

#define RUN_ELEMENTS ((size_t)1 << 16)

struct weights_writer {
    struct safetensors_writer *safetensors; /* one of the two writers is NULL */
    struct torch_writer *torch;
    float *floats;    /* [RUN_ELEMENTS] */
    uint16_t *halves; /* [RUN_ELEMENTS], F16 or BF16 */
};

int weights_writer_open(struct weights_writer **out, const char *path,
                        enum weights_file_format format, bool state_dict, struct error *e)
{
    struct weights_writer *w = xcalloc(1, sizeof *w);
    int status = format == WEIGHTS_TORCH ? torch_create(&w->torch, path, state_dict, e)
                                         : safetensors_create(&w->safetensors, path, e);
    if (status != 0) {
        free(w);
        return -1;
    }
    w->floats = xmalloc(RUN_ELEMENTS * sizeof *w->floats);
    w->halves = xmalloc(RUN_ELEMENTS * sizeof *w->halves);
    *out = w;
    return 0;
}

static void release(struct weights_writer *w)
{
    free(w->floats);
    free(w->halves);
    free(w);
}

void weights_writer_abandon(struct weights_writer *w)
{
    if (!w)
        return;
    safetensors_abandon(w->safetensors);
    torch_abandon(w->torch);
    release(w);
}

int weights_writer_commit(struct weights_writer *w, struct error *e)
{
    int status = w->torch ? torch_commit(w->torch, e) : safetensors_commit(w->safetensors, e);
    release(w);
    return status;
}

void weights_writer_metadata(struct weights_writer *w, const char *key, const char *value)
{
    if (w->safetensors)
        safetensors_metadata(w->safetensors, key, value);
}

void weights_writer_declare(struct weights_writer *w, const struct weight *t, enum dtype dtype)
{
    CHECK(dtype == t->dtype || dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16);
    if (w->torch)
        torch_declare(w->torch, t->name, dtype, t->ndim, t->shape);
    else
        safetensors_declare(w->safetensors, t->name, dtype, t->ndim, t->shape);
}

static int append(struct weights_writer *w, const void *data, size_t size, struct error *e)
{
    return w->torch ? torch_append(w->torch, data, size, e)
                    : safetensors_append(w->safetensors, data, size, e);
}

struct conversion {
    struct weights_writer *w;
    enum dtype from, to;
    int64_t *overflowed;
    struct error *e;
};

/* Converts at most RUN_ELEMENTS; returns where the result is. */
static const void *convert(struct conversion *c, const void *data, size_t n)
{
    float *floats = c->w->floats;
    uint16_t *halves = c->w->halves;
    dtype_to_f32(floats, c->from, data, n);
    if (c->to == DTYPE_F32)
        return floats;
    dtype_from_f32(c->to, halves, floats, n);
    for (size_t i = 0; i < n && c->to == DTYPE_F16; i++)
        *c->overflowed += isfinite(floats[i]) && isinf(f16_to_f32(halves[i]));
    return halves;
}

static int put_run(void *arg, const void *data, size_t count)
{
    struct conversion *c = arg;
    if (c->from == c->to)
        return append(c->w, data, count * dtype_size(c->to), c->e);
    const uint8_t *p = data;
    for (size_t n; count > 0; count -= n, p += n * dtype_size(c->from)) {
        n = count < RUN_ELEMENTS ? count : RUN_ELEMENTS;
        if (append(c->w, convert(c, p, n), n * dtype_size(c->to), c->e) != 0)
            return -1;
    }
    return 0;
}

int weights_writer_put(struct weights_writer *w, const struct weight *t, enum dtype dtype,
                       int64_t *overflowed, struct error *e)
{
    struct conversion c = {.w = w, .from = t->dtype, .to = dtype, .overflowed = overflowed, .e = e};
    return weight_stream(t, put_run, &c);
}
