#include "tests/things/look.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/threads.h"
#include "tests/things/backdrop.h"
#include "tests/things/template.h"

#define SIDE    VIEW_SIDE
#define HALF    (SIDE / 2)
#define SCALES  8
#define REFINED 24 /* places that are looked at closely */
#define LOOKS   (2 * THINGS)

static const struct {
    float smallest, ratio; /* extents of the coarse search, in pixels of the view */
    float differs;         /* oklab_distance of a pixel that counts as other than the background */
    float filled;          /* how much of a thing's area differs at least */
    float explained;       /* of what differs in a thing's square */
    float alone;           /* the same before a background that is none of ours */
    float second;          /* gain of a second thing, relative to the first one's */
    float whole;           /* explained of all that differs: noise is not full of things */
    float apart;           /* distance of two things' centers, relative to their mean extent */
} limits = {
    .smallest = 22,
    .ratio = 1.13f,
    .differs = 0.03f,
    .filled = 0.4f,
    .explained = 0.45f,
    .second = 0.008f,
    .apart = 0.5f,
    .whole = 0.4f,
    .alone = 0.75f,
};

struct place {
    int look; /* 2 * thing + mirrored */
    int x, y; /* of the center, in pixels */
    float extent, angle, gain;
    float explained; /* after the search in full size; 1 before */
};

struct look {
    const struct sprites *sprites;
    struct template coarse[LOOKS][SCALES]; /* in half the size */
    struct field full, half;
    int differing[HALF + 1][HALF + 1]; /* pixels above and left of here that do */
    struct place best[LOOKS];
    const struct look_object *taken; /* or NULL */
};

static const struct sprite *sprite_of(const struct look *l, int look)
{
    return sprites_get(l->sprites, look / 2);
}

struct look *look_new(const struct sprites *sprites)
{
    struct look *l = xcalloc(1, sizeof *l);
    l->sprites = sprites;
    for (int look = 0; look < LOOKS; look++)
        for (int k = 0; k < SCALES; k++)
            template_init(&l->coarse[look][k], sprite_of(l, look),
                          limits.smallest / 2 * powf(limits.ratio, (float)k), look % 2, 0);
    return l;
}

void look_free(struct look *l)
{
    for (int look = 0; l && look < LOOKS; look++)
        for (int k = 0; k < SCALES; k++)
            template_free(&l->coarse[look][k]);
    free(l);
}

static void fill_fields(struct look *l, const struct oklab *pixels, int scenery)
{
    struct oklab behind[VIEW_PIXELS];
    backdrop_fill(behind, pixels, scenery);
    l->full.side = SIDE;
    for (int i = 0; i < VIEW_PIXELS; i++) {
        const float is[] = {pixels[i].l, pixels[i].a, pixels[i].b};
        const float was[] = {behind[i].l, behind[i].a, behind[i].b};
        for (int c = 0; c < 3; c++) {
            l->full.behind[c][i] = was[c];
            l->full.away[c][i] = is[c] - was[c];
        }
    }
}

static void halve(float *half, const float *full)
{
    for (int i = 0; i < HALF * HALF; i++) {
        const float *p = full + 2 * (i / HALF) * SIDE + 2 * (i % HALF);
        half[i] = (p[0] + p[1] + p[SIDE] + p[SIDE + 1]) / 4;
    }
}

/* What the coarse search looks at. */
static void fill_half(struct look *l)
{
    l->half.side = HALF;
    for (int c = 0; c < 3; c++) {
        halve(l->half.behind[c], l->full.behind[c]);
        halve(l->half.away[c], l->full.away[c]);
    }
    for (int y = 0; y < HALF; y++)
        for (int x = 0; x < HALF; x++) {
            float square = 0;
            for (int c = 0; c < 3; c++)
                square += l->half.away[c][y * HALF + x] * l->half.away[c][y * HALF + x];
            l->differing[y + 1][x + 1] = l->differing[y][x + 1] + l->differing[y + 1][x] -
                                         l->differing[y][x] +
                                         (square > limits.differs * limits.differs);
        }
}

static int within(int at)
{
    return at < 0 ? 0 : at > HALF ? HALF : at;
}

/* Whether enough differs from the background where the template would lie. */
static bool is_filled(const struct look *l, const struct template *t, int x, int y)
{
    int left = within(x - t->width / 2), right = within(x + t->width / 2 + 1);
    int top = within(y - t->height / 2), bottom = within(y + t->height / 2 + 1);
    int n = l->differing[bottom][right] - l->differing[top][right] - l->differing[bottom][left] +
            l->differing[top][left];
    return (float)n >= limits.filled * t->area;
}

/* Whether a thing's center would lie on one that has been found. */
static bool is_taken(const struct look *l, float x, float y, float extent)
{
    const struct look_object *o = l->taken;
    return o && hypotf(x / SIDE - o->x, y / SIDE - o->y) <
                    limits.apart * (o->extent + extent / SIDE) / 2;
}

static void search_scale(struct look *l, int look, int k)
{
    const struct template *t = &l->coarse[look][k];
    float extent = limits.smallest * powf(limits.ratio, (float)k);
    int w = t->width / 2 - 1, h = t->height / 2 - 1;
    for (int y = h; y < HALF - h; y++)
        for (int x = w; x < HALF - w; x++) {
            float cx = 2 * (float)x + 1, cy = 2 * (float)y + 1;
            if (!is_filled(l, t, x, y) || is_taken(l, cx, cy, extent))
                continue;
            float gain = 4 * template_gain(t, &l->half, x, y);
            if (gain > l->best[look].gain)
                l->best[look] = (struct place){look, (int)cx, (int)cy, extent, 0, gain, 1};
        }
}

static void search_range(void *context, int64_t begin, int64_t end, int worker)
{
    struct look *l = context;
    for (int64_t i = begin; i < end; i++) {
        l->best[i] = (struct place){.look = (int)i};
        for (int k = 0; k < SCALES; k++)
            search_scale(l, (int)i, k);
    }
}

/* What differs from the background in a thing's square. */
static float difference_at(const struct field *f, const struct template *t, int x, int y)
{
    float sum = 0;
    for (int row = y - t->height / 2; row <= y + t->height / 2; row++)
        for (int i = x - t->width / 2; i <= x + t->width / 2; i++)
            for (int c = 0; c < 3; c++) {
                bool inside = row >= 0 && row < SIDE && i >= 0 && i < SIDE;
                float d = inside ? f->away[c][row * SIDE + i] : 0;
                sum += d * d;
            }
    return sum;
}

/* Turned, a little smaller or larger, and moved. */
static void refine(struct place *p, const struct look *l)
{
    const struct place from = *p;
    p->gain = 0;
    for (int k = 0; k < 25; k++) {
        struct template t;
        struct place at = {.look = from.look,
                           .extent = from.extent * (1 + 0.03f * (float)(k / 5 - 2)),
                           .angle = 0.06f * (float)(k % 5 - 2)};
        template_init(&t, sprite_of(l, at.look), at.extent, at.look % 2, at.angle);
        for (int m = 0; m < 25; m++) {
            at.x = from.x + m % 5 - 2;
            at.y = from.y + m / 5 - 2;
            at.gain = template_gain(&t, &l->full, at.x, at.y);
            if (at.gain <= p->gain)
                continue;
            at.explained = at.gain / difference_at(&l->full, &t, at.x, at.y);
            *p = at;
        }
        template_free(&t);
    }
}

static void refine_range(void *context, int64_t begin, int64_t end, int worker)
{
    struct look *l = context;
    for (int64_t i = begin; i < end; i++)
        refine(&l->best[i], l);
}

/* Something large may explain much of two things, but neither well. */
static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    float one = x->gain * x->explained, other = y->gain * y->explained;
    return one != other ? (one < other ? 1 : -1) : x->look - y->look;
}

/* Finds the thing that explains most, and takes it out of the image. Returns its gain, or 0. */
static float find_next(struct look_object *o, struct look *l)
{
    struct template t;
    fill_half(l);
    parallel_for(LOOKS, 8, search_range, l);
    qsort(l->best, LOOKS, sizeof *l->best, compare_places);
    parallel_for(REFINED, 1, refine_range, l);
    qsort(l->best, REFINED, sizeof *l->best, compare_places);
    const struct place *p = &l->best[0];
    if (p->gain <= 0)
        return 0;
    template_init(&t, sprite_of(l, p->look), p->extent, p->look % 2, p->angle);
    *o = (struct look_object){.thing = p->look / 2,
                              .x = ((float)p->x + 0.5f) / SIDE,
                              .y = ((float)p->y + 0.5f) / SIDE,
                              .extent = p->extent / SIDE,
                              .gain = p->gain,
                              .explained = p->explained};
    template_put(&t, &l->full, p->x, p->y);
    template_free(&t);
    return p->gain;
}

/* Finds up to two things. */
static void find_things(struct sighting_of_things *s, struct look *l)
{
    float total = 0, gain;
    for (int i = 0; i < VIEW_PIXELS; i++)
        for (int c = 0; c < 3; c++)
            total += l->full.away[c][i] * l->full.away[c][i];
    float least = s->scenery < 0 ? limits.alone : limits.explained;
    l->taken = NULL;
    gain = find_next(&s->objects[0], l);
    if (gain <= 0 || s->objects[0].explained < least)
        return;
    l->taken = &s->objects[0];
    float second = find_next(&s->objects[1], l);
    bool both = second >= limits.second * gain && s->objects[1].explained >= least;
    if ((both ? gain + second : gain) >= limits.whole * total)
        s->count = both ? 2 : 1;
}

void look_at(struct sighting_of_things *s, struct look *l, const struct image *image)
{
    struct oklab pixels[VIEW_PIXELS];
    int width, height;
    CHECK(image->color != IMAGE_CMYK);
    *s = (struct sighting_of_things){.scenery = -1};
    view_pixels(pixels, &width, &height, image);
    if (width != SIDE || height != SIDE)
        return;
    s->scenery = backdrop_find(pixels);
    fill_fields(l, pixels, s->scenery);
    find_things(s, l);
}

enum relation look_relation(const struct sighting_of_things *s)
{
    float right = s->objects[1].x - s->objects[0].x, down = s->objects[1].y - s->objects[0].y;
    return fabsf(right) > fabsf(down) ? (right > 0 ? LEFT_OF : RIGHT_OF)
                                      : (down > 0 ? ABOVE : BELOW);
}
