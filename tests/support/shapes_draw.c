/* Draws scenes by signed distances: negative inside, in units of the image's side. */
#include <math.h>

#include "common/base/message.h"
#include "tests/support/paint.h"
#include "tests/support/shapes.h"

#define PI         3.14159265f
#define MAX_POINTS 64

struct point {
    float x, y;
};

static float disc(struct point p, float x, float y, float radius)
{
    return hypotf(p.x - x, p.y - y) - radius;
}

/* Distance to the nearest edge. A point is inside if a ray to the right crosses an odd number of
 * edges. */
static float polygon(struct point p, const struct point *v, int n)
{
    float nearest = INFINITY;
    bool inside = false;
    for (int i = 0, j = n - 1; i < n; j = i++) {
        float ex = v[j].x - v[i].x, ey = v[j].y - v[i].y, px = p.x - v[i].x, py = p.y - v[i].y;
        float t = clamp((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1);
        nearest = fminf(nearest, hypotf(px - t * ex, py - t * ey));
        if ((v[i].y > p.y) != (v[j].y > p.y) && px < ex * (p.y - v[i].y) / ey)
            inside = !inside;
    }
    return inside ? -nearest : nearest;
}

/* Points around the origin at alternating radii, the first at the top. */
static int spokes(struct point *v, int n, float even, float odd)
{
    for (int i = 0; i < n; i++) {
        float angle = 2 * PI * (float)i / (float)n, radius = i % 2 ? odd : even;
        v[i] = (struct point){radius * sinf(angle), -radius * cosf(angle)};
    }
    return n;
}

static int cross_points(struct point *v, float arm, float half)
{
    const struct point quarter[3] = {{half, -arm}, {half, -half}, {arm, -half}};
    for (int i = 0; i < 12; i++) {
        struct point q = quarter[i % 3];
        for (int turn = 0; turn < i / 3; turn++)
            q = (struct point){-q.y, q.x};
        v[i] = q;
    }
    return 12;
}

/* x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t. */
static int heart_points(struct point *v)
{
    for (int i = 0; i < MAX_POINTS; i++) {
        float t = 2 * PI * ((float)i + 0.5f) / MAX_POINTS, s = sinf(t);
        float y = 13 * cosf(t) - 5 * cosf(2 * t) - 2 * cosf(3 * t) - cosf(4 * t);
        v[i] = (struct point){0.96f * s * s * s, -0.06f * y - 0.1f};
    }
    return MAX_POINTS;
}

struct outline {
    struct point points[MAX_POINTS];
    int count;      /* 0: a shape made of discs */
    float rounding; /* the polygon is grown by this much */
};

static void outline_init(struct outline *o, enum shape shape)
{
    struct point *v = o->points;
    o->count = 0;
    o->rounding = 0.06f;
    switch (shape) {
    case SHAPE_SQUARE:
        o->count = 4;
        for (int i = 0; i < 4; i++)
            v[i] = (struct point){i == 1 || i == 2 ? 0.67f : -0.67f, i >= 2 ? 0.67f : -0.67f};
        break;
    case SHAPE_TRIANGLE:
        o->count = spokes(v, 3, 0.98f, 0.98f);
        for (int i = 0; i < 3; i++)
            v[i].y += 0.14f;
        break;
    case SHAPE_STAR:
        o->count = spokes(v, 10, 0.94f, 0.42f);
        break;
    case SHAPE_HEART:
        o->count = heart_points(v);
        o->rounding = 0;
        break;
    case SHAPE_CROSS:
        o->count = cross_points(v, 0.82f, 0.25f);
        break;
    case SHAPE_DIAMOND:
        o->count = spokes(v, 4, 0.93f, 0.6f);
        break;
    default:
        break;
    }
}

/* p is in units of the radius, with the shape upright. */
static float shape_distance(enum shape shape, const struct outline *o, struct point p)
{
    if (o->count > 0)
        return polygon(p, o->points, o->count) - o->rounding;
    switch (shape) {
    case SHAPE_CIRCLE:
        return disc(p, 0, 0, 0.88f);
    case SHAPE_RING:
        return fabsf(hypotf(p.x, p.y) - 0.67f) - 0.25f;
    case SHAPE_MOON:
        return fmaxf(disc(p, 0.1f, 0, 0.9f), -disc(p, 0.5f, -0.16f, 0.74f));
    case SHAPE_FLOWER: {
        float nearest = disc(p, 0, 0, 0.4f);
        for (int i = 0; i < 5; i++) {
            float angle = 2 * PI * (float)i / 5;
            nearest = fminf(nearest, disc(p, 0.58f * sinf(angle), -0.58f * cosf(angle), 0.36f));
        }
        return nearest;
    }
    default:
        check_failed(__FILE__, __LINE__, "a known shape");
    }
}

struct sprite {
    const struct shapes_object *object;
    struct outline outline;
    struct rgb color;
    float cos, sin;
};

static void sprite_init(struct sprite *s, const struct shapes_object *o)
{
    s->object = o;
    outline_init(&s->outline, o->shape);
    s->color = rgb_from_bytes(color_srgb[o->color]);
    float tint = o->tint < 0 ? 0 : 1;
    s->color = mix(s->color, (struct rgb){tint, tint, tint}, 0.05f * fabsf(o->tint));
    s->cos = cosf(o->angle);
    s->sin = sinf(o->angle);
}

/* The distance is in units of the image's side; *local in units of the radius, not rotated. */
static float sprite_distance(const struct sprite *s, struct point p, struct point *local)
{
    const struct shapes_object *o = s->object;
    float x = (p.x - o->x) / o->radius, y = (p.y - o->y) / o->radius;
    *local = (struct point){x, y};
    struct point upright = {s->cos * x + s->sin * y, s->cos * y - s->sin * x};
    return o->radius * shape_distance(o->shape, &s->outline, upright);
}

/* Light from the upper left, a darker rim, and the center of a flower. */
static struct rgb sprite_color(const struct sprite *s, struct point local, float distance)
{
    const struct rgb white = {1, 1, 1};
    const struct rgb shade = {0.05f, 0.05f, 0.1f};
    /* Keeps white recognizable in the shade. */
    struct rgb dark = mix(s->color, shade, s->object->color == COLOR_WHITE ? 0.18f : 0.3f);
    struct rgb c = s->color;
    float light = -(0.45f * local.x + 0.8f * local.y);
    c = light > 0 ? mix(c, white, 0.16f * light) : mix(c, dark, -0.4f * light);
    float rim = clamp(1 + distance / 0.022f, 0, 1);
    c = mix(c, dark, 0.3f * rim * rim);
    if (s->object->shape == SHAPE_FLOWER) {
        float middle = smooth_step((0.26f - hypotf(local.x, local.y)) / 0.12f);
        c = s->object->color == COLOR_WHITE ? mix(c, dark, 0.5f * middle)
                                            : mix(c, white, 0.3f * middle);
    }
    return c;
}

static struct rgb background_color(const struct shapes_scene *s, struct point p, float pixel)
{
    const struct background *b = &backgrounds[s->background];
    struct rgb tones[4];
    for (int i = 0; i < 4; i++)
        tones[i] = rgb_from_bytes(b->tones[i]);
    float tilted = p.y + s->slope * (p.x - 0.5f);
    if (b->kind == BACKGROUND_PLAIN)
        return mix(tones[0], (struct rgb){0, 0, 0}, 0.03f * clamp(tilted, 0, 1));
    if (b->kind == BACKGROUND_GRADIENT)
        return mix(tones[0], tones[1], smooth_step(tilted));
    float hills =
        s->horizon + 0.15f * s->slope * (p.x - 0.5f) + 0.02f * sinf(2 * PI * 0.8f * p.x + s->phase);
    struct rgb sky = mix(tones[0], tones[1], clamp(p.y / hills, 0, 1));
    struct rgb ground = mix(tones[2], tones[3], clamp((p.y - hills) / (1 - hills), 0, 1));
    return mix(sky, ground, clamp((p.y - hills) / pixel + 0.5f, 0, 1));
}

static struct rgb pixel_color(const struct shapes_scene *s, const struct sprite *sprites,
                              struct point p, float pixel)
{
    struct rgb c = background_color(s, p, pixel);
    struct point local;
    for (int i = 0; i < s->count; i++) { /* shadows */
        const float softness = 0.035f;
        struct point lit = {p.x - 0.012f, p.y - 0.028f};
        float shadow = smooth_step(0.5f - sprite_distance(&sprites[i], lit, &local) / softness / 2);
        c = mix(c, (struct rgb){0.05f, 0.06f, 0.12f}, 0.13f * shadow);
    }
    for (int i = 0; i < s->count; i++) {
        float distance = sprite_distance(&sprites[i], p, &local);
        float cover = clamp(0.5f - distance / pixel, 0, 1);
        if (cover > 0)
            c = mix(c, sprite_color(&sprites[i], local, distance), cover);
    }
    return c;
}

int shapes_draw(struct image *image, const struct shapes_scene *s, int size, struct error *e)
{
    struct sprite sprites[2];
    for (int i = 0; i < s->count; i++)
        sprite_init(&sprites[i], &s->objects[i]);
    if (image_new(image, size, size, 3, 8, e) < 0)
        return -1;
    float pixel = 1 / (float)size;
    uint8_t *out = image->pixels;
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++, out += 3) {
            struct point p = {((float)x + 0.5f) * pixel, ((float)y + 0.5f) * pixel};
            rgb_store(out, pixel_color(s, sprites, p, pixel));
        }
    return 0;
}
