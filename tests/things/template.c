#include "tests/things/template.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"

#define FINE 4 /* samples per pixel and direction */

/* The bitmap's color at (u, v), its center at (0, 0). */
static void sample(float sum[4], const struct sprite *s, float u, float v)
{
    int x = (int)floorf(u + (float)s->width / 2), y = (int)floorf(v + (float)s->height / 2);
    if (x < 0 || y < 0 || x >= s->width || y >= s->height)
        return;
    for (int c = 0; c < 4; c++)
        sum[c] += (float)s->rgba[4 * (y * s->width + x) + c] / 255;
}

static void set_pixel(struct template *t, int i, const float sum[4])
{
    float a = sum[3] / (FINE * FINE), rgb[3];
    t->cover[i] = a;
    t->area += a;
    if (a <= 0)
        return;
    for (int c = 0; c < 3; c++)
        rgb[c] = fminf(sum[c] / sum[3], 1);
    struct oklab color = oklab_from_srgb(rgb);
    t->color[0][i] = a * color.l;
    t->color[1][i] = a * color.a;
    t->color[2][i] = a * color.b;
}

void template_init(struct template *t, const struct sprite *s, float extent, bool mirrored,
                   float angle)
{
    int longer = s->width > s->height ? s->width : s->height;
    float scale = (float)longer / extent, c = cosf(angle), d = sinf(angle);
    float w = (float)s->width / scale, h = (float)s->height / scale;
    *t = (struct template){.width = (int)ceilf(fabsf(c) * w + fabsf(d) * h) | 1,
                           .height = (int)ceilf(fabsf(c) * h + fabsf(d) * w) | 1};
    size_t n = (size_t)t->width * (size_t)t->height;
    t->cover = xcalloc(4 * n, sizeof *t->cover);
    for (size_t k = 0; k < 3; k++)
        t->color[k] = t->cover + (k + 1) * n;
    for (int i = 0; i < t->width * t->height; i++) {
        float sum[4] = {0};
        for (int k = 0; k < FINE * FINE; k++) {
            float x = (float)(i % t->width) + ((float)(k % FINE) + 0.5f) / FINE;
            float y = (float)(i / t->width) + ((float)(k / FINE) + 0.5f) / FINE;
            x -= (float)t->width / 2;
            y -= (float)t->height / 2;
            float u = scale * (c * x + d * y), v = scale * (c * y - d * x);
            sample(sum, s, mirrored ? -u : u, v);
        }
        set_pixel(t, i, sum);
    }
}

void template_free(struct template *t)
{
    free(t->cover);
    *t = (struct template){0};
}

/* The part of a template that lies in a field. */
struct overlap {
    int left, top, begin, end, first, last; /* columns and rows of the template */
};

static struct overlap overlap_of(const struct template *t, int side, int x, int y)
{
    struct overlap o = {.left = x - t->width / 2, .top = y - t->height / 2};
    o.begin = o.left < 0 ? -o.left : 0;
    o.end = o.left + t->width > side ? side - o.left : t->width;
    o.first = o.top < 0 ? -o.top : 0;
    o.last = o.top + t->height > side ? side - o.top : t->height;
    return o;
}

/* |away|^2 - |away - (color - cover behind)|^2, summed by columns so that the compiler can use
 * vectors. */
float template_gain(const struct template *t, const struct field *f, int x, int y)
{
    float columns[2 * VIEW_SIDE] = {0}, gain = 0;
    struct overlap o = overlap_of(t, f->side, x, y);
    for (int row = o.first; row < o.last; row++)
        for (int c = 0; c < 3; c++) {
            const float *cover = t->cover + row * t->width, *color = t->color[c] + row * t->width;
            const float *behind = f->behind[c] + (o.top + row) * f->side + o.left;
            const float *away = f->away[c] + (o.top + row) * f->side + o.left;
            for (int i = o.begin; i < o.end; i++) {
                float change = color[i] - cover[i] * behind[i];
                columns[i] += change * (2 * away[i] - change);
            }
        }
    for (int i = o.begin; i < o.end; i++)
        gain += columns[i];
    return gain;
}

void template_put(const struct template *t, struct field *f, int x, int y)
{
    struct overlap o = overlap_of(t, f->side, x, y);
    for (int row = o.first; row < o.last; row++)
        for (int i = o.begin; i < o.end; i++)
            for (int c = 0; c < 3; c++) {
                int at = row * t->width + i, to = (o.top + row) * f->side + o.left + i;
                float change = t->color[c][at] - t->cover[at] * f->behind[c][to];
                f->behind[c][to] += change;
                f->away[c][to] -= change;
            }
}
