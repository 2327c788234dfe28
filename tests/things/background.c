#include "tests/things/background.h"

#include <math.h>

#define PI      3.14159265f
#define DETAILS 18

float linear_from_srgb(float x)
{
    return x <= 0.04045f ? x / 12.92f : powf((x + 0.055f) / 1.055f, 2.4f);
}

float srgb_from_linear(float x)
{
    return x <= 0.0031308f ? 12.92f * x : 1.055f * powf(x, 1 / 2.4f) - 0.055f;
}

struct dot {
    float x, y, radius, light;
};

/* A background with all that is the same for its pixels. */
struct painter {
    const struct things_scene *scene;
    const struct scenery *scenery;
    struct rgb tones[4];
    struct dot dots[DETAILS];
    int count;
    float pixel;
};

static void painter_init(struct painter *p, const struct things_scene *s, int size)
{
    const struct rgb black = {0, 0, 0}, white = {1, 1, 1};
    *p = (struct painter){.scene = s, .scenery = &sceneries[s->scenery], .pixel = 1 / (float)size};
    for (int i = 0; i < 4; i++)
        p->tones[i] = mix(rgb_from_bytes(p->scenery->tones[i]), s->shade < 0 ? black : white,
                          0.03f * fabsf(s->shade));
    struct draws d = s->details;
    bool stars = p->scenery->detail == DETAIL_STARS;
    if (!stars && p->scenery->detail != DETAIL_FLAKES)
        return;
    for (p->count = 0; p->count < DETAILS; p->count++) {
        struct dot *dot = &p->dots[p->count];
        dot->x = draw_between(&d, 0.02f, 0.98f);
        dot->y = draw_between(&d, 0.02f, stars ? s->horizon - 0.04f : 0.98f);
        dot->radius = draw_between(&d, 0.008f, 0.016f);
        dot->light = draw_between(&d, 0.5f, 1);
    }
}

/* The height at which the ground ends; the sea's is straight. */
static float ground_at(const struct painter *p, float x)
{
    const struct things_scene *s = p->scene;
    if (p->scenery->detail == DETAIL_WAVES)
        return s->horizon;
    return s->horizon + 0.15f * s->slope * (x - 0.5f) + 0.02f * sinf(2 * PI * 0.8f * x + s->phase);
}

/* Nearer waves are wider. */
static float wave_at(const struct painter *p, float x, float depth)
{
    float rows = 6 * sqrtf(depth), sway = sinf(2 * PI * 1.5f * x + p->scene->phase + 5 * depth);
    return clamp(sinf(2 * PI * rows + 1.2f * sway) - 0.3f, 0, 1);
}

static struct rgb ground_color(const struct painter *p, float x, float y)
{
    const struct rgb white = {1, 1, 1};
    float height = ground_at(p, x), depth = clamp((y - height) / (1 - height), 0, 1);
    struct rgb sky = mix(p->tones[0], p->tones[1], clamp(y / height, 0, 1));
    struct rgb ground = mix(p->tones[2], p->tones[3], depth);
    if (p->scenery->detail == DETAIL_WAVES)
        ground = mix(ground, white, 0.22f * wave_at(p, x, depth));
    struct rgb c = mix(sky, ground, clamp((y - height) / p->pixel + 0.5f, 0, 1));
    for (int i = 0; i < p->count; i++) {
        const struct dot *d = &p->dots[i];
        float away = hypotf(x - d->x, y - d->y) / fmaxf(d->radius, 0.6f * p->pixel);
        if (away < 3)
            c = mix(c, white, d->light * expf(-away * away));
    }
    return c;
}

static struct rgb color_at(const struct painter *p, float x, float y)
{
    float tilted = clamp(y + p->scene->slope * (x - 0.5f), 0, 1);
    switch (p->scenery->kind) {
    case SCENERY_PLAIN:
        return mix(p->tones[0], (struct rgb){0, 0, 0}, 0.03f * tilted);
    case SCENERY_GRADIENT:
        return tilted < 0.5f ? mix(p->tones[0], p->tones[1], 2 * tilted)
                             : mix(p->tones[1], p->tones[2], 2 * tilted - 1);
    default:
        return ground_color(p, x, y);
    }
}

void background_draw(struct rgb *pixels, const struct things_scene *s, int size)
{
    struct painter p;
    painter_init(&p, s, size);
    for (int i = 0; i < size * size; i++) {
        struct rgb c = color_at(&p, ((float)(i % size) + 0.5f) * p.pixel,
                                ((float)(i / size) + 0.5f) * p.pixel);
        pixels[i] =
            (struct rgb){linear_from_srgb(c.r), linear_from_srgb(c.g), linear_from_srgb(c.b)};
    }
}
