/* Draws scenes in linear light. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/support/paint.h"
#include "tests/things/background.h"
#include "tests/things/things.h"

struct rgba {
    float r, g, b, a; /* linear light, premultiplied */
};

/* A bitmap in linear light. */
struct texture {
    int width, height;
    struct rgba *texels;
};

static void texture_init(struct texture *t, const struct sprite *s)
{
    float linear[256];
    for (int i = 0; i < 256; i++)
        linear[i] = linear_from_srgb((float)i / 255);
    *t = (struct texture){s->width, s->height, NULL};
    t->texels = xcalloc((size_t)(s->width * s->height), sizeof *t->texels);
    for (int i = 0; i < s->width * s->height; i++) {
        const uint8_t *p = s->rgba + 4 * i;
        float rgb[3], a = (float)p[3] / 255;
        for (int c = 0; c < 3 && p[3] > 0; c++)
            rgb[c] = linear[p[c] < p[3] ? (p[c] * 255 + p[3] / 2) / p[3] : 255];
        if (p[3] > 0)
            t->texels[i] = (struct rgba){rgb[0] * a, rgb[1] * a, rgb[2] * a, a};
    }
}

/* Adds weight times the bilinear sample at (x, y); outside, all is transparent. */
static void texture_add(struct rgba *sum, const struct texture *t, float x, float y, float weight)
{
    float fx = floorf(x - 0.5f), fy = floorf(y - 0.5f);
    float right = x - 0.5f - fx, down = y - 0.5f - fy;
    for (int k = 0; k < 4; k++) {
        int px = (int)fx + k % 2, py = (int)fy + k / 2;
        if (px < 0 || py < 0 || px >= t->width || py >= t->height)
            continue;
        const struct rgba *c = &t->texels[py * t->width + px];
        float w = weight * (k % 2 ? right : 1 - right) * (k / 2 ? down : 1 - down);
        sum->r += w * c->r;
        sum->g += w * c->g;
        sum->b += w * c->b;
        sum->a += w * c->a;
    }
}

/* A pixel is the mean of samples less than a texel apart. */
static void draw_layer(struct rgba *layer, const struct things_object *o, const struct texture *t,
                       int size)
{
    int longer = t->width > t->height ? t->width : t->height;
    float scale = (float)longer / (o->extent * (float)size); /* texels per pixel */
    int n = (int)ceilf(scale) + 1;
    float c = cosf(o->angle), s = sinf(o->angle), reach = 0.75f * o->extent;
    for (int i = 0; i < size * size; i++) {
        float px = (float)(i % size) - o->x * (float)size;
        float py = (float)(i / size) - o->y * (float)size;
        layer[i] = (struct rgba){0};
        if (fabsf(px) > reach * (float)size + 1 || fabsf(py) > reach * (float)size + 1)
            continue;
        for (int k = 0; k < n * n; k++) {
            float x = px + ((float)(k % n) + 0.5f) / (float)n;
            float y = py + ((float)(k / n) + 0.5f) / (float)n;
            float u = scale * (c * x + s * y), v = scale * (c * y - s * x);
            texture_add(&layer[i], t, (float)t->width / 2 + (o->mirrored ? -u : u),
                        (float)t->height / 2 + v, 1 / (float)(n * n));
        }
    }
}

/* One direction of a Gaussian blur; step is 1 or the length of a row. */
static void blur_lines(float *out, const float *in, int size, int step, float sigma)
{
    int radius = (int)ceilf(2.5f * sigma);
    for (int i = 0; i < size * size; i++) {
        int at = step == 1 ? i % size : i / size;
        float sum = 0, total = 0;
        for (int k = -radius; k <= radius; k++) {
            float w = expf(-0.5f * (float)(k * k) / (sigma * sigma));
            total += w;
            if (at + k >= 0 && at + k < size)
                sum += w * in[i + k * step];
        }
        out[i] = sum / total;
    }
}

/* The blurred cover of a layer. */
static void blur(float *cover, float *work, const struct rgba *layer, int size, float sigma)
{
    for (int i = 0; i < size * size; i++)
        cover[i] = layer[i].a;
    blur_lines(work, cover, size, 1, sigma);
    blur_lines(cover, work, size, size, sigma);
}

/* A soft shadow to the lower right. Where it is dark, a faint light around the thing as well. */
static void draw_shadow(struct rgb *pixels, const float *cover, int size)
{
    int right = (int)(0.012f * (float)size + 0.5f), down = (int)(0.03f * (float)size + 0.5f);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++) {
            struct rgb *p = &pixels[y * size + x];
            float around = cover[y * size + x];
            float shadow = y >= down && x >= right ? cover[(y - down) * size + x - right] : 0;
            float bright = fmaxf(p->r, fmaxf(p->g, p->b));
            float light = 0.1f * clamp(1 - bright / 0.12f, 0, 1) * smooth_step(2.2f * around);
            *p = mix(*p, (struct rgb){0, 0, 0}, 0.42f * shadow);
            *p = mix(*p, (struct rgb){0.8f, 0.85f, 1}, light);
        }
}

static void draw_object(struct rgb *pixels, const struct things_object *o,
                        const struct sprites *sprites, int size)
{
    size_t n = (size_t)size * (size_t)size;
    struct texture t;
    struct rgba *layer = xmalloc(n * sizeof *layer);
    float *cover = xmalloc(n * sizeof *cover), *work = xmalloc(n * sizeof *work);
    texture_init(&t, sprites_get(sprites, o->thing));
    draw_layer(layer, o, &t, size);
    blur(cover, work, layer, size, 0.024f * (float)size);
    draw_shadow(pixels, cover, size);
    for (size_t i = 0; i < n; i++) {
        struct rgb *p = &pixels[i];
        float clear = 1 - layer[i].a;
        *p = (struct rgb){layer[i].r + clear * p->r, layer[i].g + clear * p->g,
                          layer[i].b + clear * p->b};
    }
    free(t.texels);
    free(layer);
    free(cover);
    free(work);
}

int things_draw(struct image *image, const struct things_scene *s, const struct sprites *sprites,
                int size, struct error *e)
{
    if (image_new(image, size, size, 3, 8, e) < 0)
        return -1;
    size_t n = (size_t)size * (size_t)size;
    struct rgb *pixels = xmalloc(n * sizeof *pixels);
    background_draw(pixels, s, size);
    for (int i = 0; i < s->count; i++)
        draw_object(pixels, &s->objects[i], sprites, size);
    for (size_t i = 0; i < n; i++) {
        struct rgb *p = &pixels[i];
        rgb_store(
            image->pixels + 3 * i,
            (struct rgb){srgb_from_linear(p->r), srgb_from_linear(p->g), srgb_from_linear(p->b)});
    }
    free(pixels);
    return 0;
}
