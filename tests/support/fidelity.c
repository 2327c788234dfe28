#include "tests/support/fidelity.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "tests/support/oklab.h"
#include "tests/support/view.h"

/* Color differences are in oklab_distance, areas are fractions of the image. */
static const struct {
    float alike, stands_out, palette;
    float border_share, least_area, most_area, clutter, overlap;
} limits = {
    .alike = 0.08f,
    .stands_out = 0.13f, /* more than a soft shadow */
    .palette = 0.17f,
    .border_share = 0.08f, /* of a color that belongs to the background */
    .least_area = 0.008f,
    .most_area = 0.6f,
    .clutter = 0.25f, /* of the object's area, elsewhere */
    .overlap = 0.75f,
};

#define SIDE     VIEW_SIDE
#define PIXELS   VIEW_PIXELS
#define MAX_SEEN 64 /* tones of the background */
#define GRID     40 /* cells per side of a shape of unit area, from -EXTENT to EXTENT */
#define EXTENT   1.25f
#define ANGLES   13
#define PI       3.14159265f

struct view {
    int width, height;
    struct oklab pixels[PIXELS];
    float from_background[PIXELS];
    bool object[PIXELS];
    float cover[PIXELS]; /* of the object, 0 to 1 */
};

static bool on_border(const struct view *v, int i)
{
    int x = i % v->width, y = i / v->width;
    return x == 0 || y == 0 || x == v->width - 1 || y == v->height - 1;
}

/* Tones of the border that are common enough there; an object that reaches the border is not. */
static int background_tones(const struct view *v, struct oklab tones[MAX_SEEN])
{
    struct oklab border[4 * SIDE];
    int n = 0, count = 0;
    for (int i = 0; i < v->width * v->height; i++)
        if (on_border(v, i))
            border[n++] = v->pixels[i];
    for (int i = 0; i < n && count < MAX_SEEN; i++) {
        int alike = 0;
        bool known = false;
        for (int j = 0; j < n; j++)
            alike += oklab_distance(border[i], border[j]) < limits.alike;
        for (int j = 0; j < count; j++)
            known = known || oklab_distance(border[i], tones[j]) < limits.alike / 4;
        if (!known && (float)alike >= limits.border_share * (float)n)
            tones[count++] = border[i];
    }
    return count;
}

static void measure_background(struct view *v, const struct oklab *tones, int count)
{
    for (int i = 0; i < v->width * v->height; i++) {
        float nearest = INFINITY;
        for (int j = 0; j < count; j++)
            nearest = fminf(nearest, oklab_distance(v->pixels[i], tones[j]));
        v->from_background[i] = nearest;
    }
}

/* Whether any (or all) of a pixel and its four neighbors are set. Nothing outside the image is. */
static void spread(const struct view *v, const bool *in, bool *out, bool all)
{
    static const int dx[] = {0, 1, -1, 0, 0}, dy[] = {0, 0, 0, 1, -1};
    for (int i = 0; i < v->width * v->height; i++) {
        int set = 0;
        for (int k = 0; k < 5; k++) {
            int x = i % v->width + dx[k], y = i / v->width + dy[k];
            set += x >= 0 && y >= 0 && x < v->width && y < v->height && in[y * v->width + x];
        }
        out[i] = all ? set == 5 : set > 0;
    }
}

/* Keeps the largest connected component (8-connectivity). Returns its number of pixels. */
static int keep_largest(const struct view *v, bool *mask)
{
    int label[PIXELS] = {0}, stack[PIXELS], best = 0, most = 0, n = v->width * v->height;
    for (int seed = 0, labels = 0; seed < n; seed++) {
        if (!mask[seed] || label[seed])
            continue;
        int depth = 0, area = 0;
        label[seed] = ++labels;
        stack[depth++] = seed;
        while (depth > 0) {
            int at = stack[--depth], x = at % v->width, y = at / v->width;
            area++;
            for (int k = 0; k < 9; k++) {
                int nx = x + k % 3 - 1, ny = y + k / 3 - 1, next = ny * v->width + nx;
                if (nx < 0 || ny < 0 || nx >= v->width || ny >= v->height || !mask[next] ||
                    label[next])
                    continue;
                label[next] = labels;
                stack[depth++] = next;
            }
        }
        if (area > most) {
            most = area;
            best = labels;
        }
    }
    for (int i = 0; i < n; i++)
        mask[i] = mask[i] && label[i] == best;
    return most;
}

static int compare_floats(const void *x, const void *y)
{
    float a = *(const float *)x, b = *(const float *)y;
    return (a > b) - (a < b);
}

static struct oklab median_color(const struct view *v, const bool *mask)
{
    float sorted[3][PIXELS];
    size_t n = 0;
    for (int i = 0; i < v->width * v->height; i++) {
        if (!mask[i])
            continue;
        sorted[0][n] = v->pixels[i].l;
        sorted[1][n] = v->pixels[i].a;
        sorted[2][n++] = v->pixels[i].b;
    }
    for (int c = 0; c < 3; c++)
        qsort(sorted[c], n, sizeof(float), compare_floats);
    return (struct oklab){sorted[0][n / 2], sorted[1][n / 2], sorted[2][n / 2]};
}

/* The median color of inner pixels, or of all pixels if the object is too thin to have any. */
static struct oklab core_color(const struct view *v)
{
    bool inner[PIXELS];
    int n = 0;
    spread(v, v->object, inner, true);
    for (int i = 0; i < v->width * v->height; i++)
        n += inner[i];
    return median_color(v, n > 8 ? inner : v->object);
}

/* Finds what differs strongly from the background and is thick, which a horizon is not, then
 * extends it by pixels closer to its color than to the background. Returns NULL, or why there is no
 * single object. */
static const char *find_object(struct view *v, struct oklab *color)
{
    struct oklab tones[MAX_SEEN];
    bool different[PIXELS], work[PIXELS];
    int n = v->width * v->height, count = background_tones(v, tones);
    if (v->width < 16 || v->height < 16)
        return "image too small";
    if (count == 0)
        return "no background";
    measure_background(v, tones, count);
    for (int i = 0; i < n; i++)
        different[i] = v->from_background[i] > limits.stands_out;
    spread(v, different, work, true);
    spread(v, work, v->object, false);
    memcpy(different, v->object, sizeof different);
    int area = keep_largest(v, v->object);
    if ((float)area < limits.least_area * (float)n)
        return "no object";

    *color = core_color(v);
    spread(v, v->object, work, false);
    spread(v, work, v->object, false);
    for (int i = 0; i < n; i++) {
        float distance = oklab_distance(v->pixels[i], *color), away = v->from_background[i];
        v->cover[i] = v->object[i] ? away / (away + distance + 1e-6f) : 0;
        v->object[i] = v->cover[i] > 0.5f && away > limits.alike / 2;
    }
    area = keep_largest(v, v->object);
    if ((float)area < limits.least_area * (float)n)
        return "no object";
    if ((float)area > limits.most_area * (float)n)
        return "no background";
    *color = core_color(v);

    int elsewhere = 0;
    spread(v, v->object, work, false);
    for (int i = 0; i < n; i++) {
        elsewhere += different[i] && !work[i];
        float c = (v->cover[i] - 0.25f) / 0.5f; /* excludes the shadow */
        v->cover[i] = !work[i] || c < 0 ? 0 : c > 1 ? 1 : c;
    }
    return (float)elsewhere > limits.clutter * (float)area ? "more than one object" : NULL;
}

/* Whether (x, y) is inside a shape, y downwards, in units of the shape. */
static bool inside_formula(enum shape shape, float x, float y)
{
    float r = hypotf(x, y), across = fabsf(x), up = -y;
    float turn = 2 * PI / 5, phi = atan2f(x, up);
    switch (shape) {
    case SHAPE_CIRCLE:
        return r < 1;
    case SHAPE_SQUARE:
        return across < 1 && fabsf(y) < 1;
    case SHAPE_TRIANGLE:
        return up > -0.5f && up < 1 - sqrtf(3) * across;
    case SHAPE_STAR: { /* tips at 1, notches at 0.46: left of the edge between them */
        phi = fabsf(phi - turn * roundf(phi / turn));
        float nx = 0.46f * cosf(turn / 2), ny = 0.46f * sinf(turn / 2);
        return (nx - 1) * r * sinf(phi) - ny * (r * cosf(phi) - 1) > 0;
    }
    case SHAPE_HEART: {
        float q = x * x + up * up - 1;
        return q * q * q < x * x * up * up * up;
    }
    case SHAPE_MOON:
        return r < 1 && hypotf(x - 0.45f, y + 0.18f) > 0.82f;
    case SHAPE_CROSS:
        return fmaxf(across, fabsf(y)) < 1 && fminf(across, fabsf(y)) < 0.35f;
    case SHAPE_RING:
        return r < 1 && r > 0.46f;
    case SHAPE_DIAMOND:
        return across / 0.66f + fabsf(y) < 1;
    case SHAPE_FLOWER:
        return r < 0.765f + 0.175f * cosf(5 * phi);
    default:
        check_failed(__FILE__, __LINE__, "a shape with a formula");
    }
}

/* Area and center of a formula, by counting. */
struct measure {
    float side; /* square root of the area */
    float x, y;
};

static struct measure measure_formula(enum shape shape)
{
    const float step = 0.01f, reach = 1.5f;
    const int n = (int)(2 * reach / step);
    double count = 0, sx = 0, sy = 0;
    for (int i = 0; i < n * n; i++) {
        float x = -reach + step * ((float)(i % n) + 0.5f);
        float y = -reach + step * ((float)(i / n) + 0.5f);
        if (!inside_formula(shape, x, y))
            continue;
        count++;
        sx += x;
        sy += y;
    }
    return (struct measure){(float)sqrt(count) * step, (float)(sx / count), (float)(sy / count)};
}

/* Fraction of a cell inside the rotated shape of unit area, from 3 x 3 points. */
static float formula_cover(enum shape shape, const struct measure *m, int cell, float angle)
{
    const float step = 2 * EXTENT / GRID;
    float c = cosf(angle), s = sinf(angle);
    int inside = 0;
    for (int k = 0; k < 9; k++) {
        float x = -EXTENT + step * ((float)(cell % GRID) + ((float)(k % 3) + 0.5f) / 3);
        float y = -EXTENT + step * ((float)(cell / GRID) + ((float)(k / 3) + 0.5f) / 3);
        inside += inside_formula(shape, m->side * (c * x + s * y) + m->x,
                                 m->side * (c * y - s * x) + m->y);
    }
    return (float)inside / 9;
}

struct formulas {
    float cover[SHAPE_COUNT][ANGLES][GRID * GRID];
    bool ready;
};

static const struct formulas *formulas(void)
{
    static struct formulas f;
    for (int shape = 0; shape < SHAPE_COUNT && !f.ready; shape++) {
        struct measure m = measure_formula((enum shape)shape);
        float most = shape == SHAPE_FLOWER ? PI / 5 : PI / 10;
        for (int a = 0; a < ANGLES; a++)
            for (int cell = 0; cell < GRID * GRID; cell++)
                f.cover[shape][a][cell] = formula_cover((enum shape)shape, &m, cell,
                                                        most * (2 * (float)a / (ANGLES - 1) - 1));
    }
    f.ready = true;
    return &f;
}

static float cover_at(const struct view *v, float x, float y)
{
    int x0 = (int)floorf(x), y0 = (int)floorf(y);
    float sum = 0;
    for (int k = 0; k < 4; k++) {
        int px = x0 + k % 2, py = y0 + k / 2;
        if (px < 0 || py < 0 || px >= v->width || py >= v->height)
            continue;
        sum +=
            v->cover[py * v->width + px] * (1 - fabsf(x - (float)px)) * (1 - fabsf(y - (float)py));
    }
    return sum;
}

/* Scales the object to unit area and centers it. */
static void normalize(const struct view *v, float cells[GRID * GRID])
{
    double area = 0, sx = 0, sy = 0;
    for (int i = 0; i < v->width * v->height; i++) {
        area += v->cover[i];
        sx += v->cover[i] * (float)(i % v->width);
        sy += v->cover[i] * (float)(i / v->width);
    }
    float side = (float)sqrt(area), x = (float)(sx / area), y = (float)(sy / area);
    for (int i = 0; i < GRID * GRID; i++)
        cells[i] = cover_at(v, x + side * EXTENT * (2 * ((float)(i % GRID) + 0.5f) / GRID - 1),
                            y + side * EXTENT * (2 * ((float)(i / GRID) + 0.5f) / GRID - 1));
}

static void tell_shape(struct sighting *s, const struct view *v)
{
    const struct formulas *f = formulas();
    float cells[GRID * GRID];
    normalize(v, cells);
    for (int shape = 0; shape < SHAPE_COUNT; shape++)
        for (int a = 0; a < ANGLES; a++) {
            float both = 0, either = 0;
            for (int i = 0; i < GRID * GRID; i++) {
                both += fminf(cells[i], f->cover[shape][a][i]);
                either += fmaxf(cells[i], f->cover[shape][a][i]);
            }
            if (both / either > s->overlap) {
                s->overlap = both / either;
                s->shape = (enum shape)shape;
            }
        }
    if (!(s->overlap >= limits.overlap))
        s->shape = SHAPE_COUNT;
}

static void tell_color(struct sighting *s, struct oklab seen)
{
    s->distance = INFINITY;
    for (int c = 0; c < COLOR_COUNT; c++) {
        float rgb[3];
        for (int k = 0; k < 3; k++)
            rgb[k] = (float)color_srgb[c][k] / 255;
        float distance = oklab_distance(seen, oklab_from_srgb(rgb));
        if (distance < s->distance) {
            s->distance = distance;
            s->color = (enum color)c;
        }
    }
    if (!(s->distance <= limits.palette))
        s->color = COLOR_COUNT;
}

void fidelity_look(struct sighting *s, const struct image *image)
{
    CHECK(image->color != IMAGE_CMYK);
    struct view *v = xcalloc(1, sizeof *v);
    struct oklab color;
    *s = (struct sighting){.shape = SHAPE_COUNT, .color = COLOR_COUNT};
    view_pixels(v->pixels, &v->width, &v->height, image);
    s->trouble = find_object(v, &color);
    if (!s->trouble) {
        tell_shape(s, v);
        tell_color(s, color);
    }
    free(v);
}

static int word_index(const char *const *names, int count, const char *word, size_t length)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && !memcmp(names[i], word, length))
            return i;
    return -1;
}

bool fidelity_parse(const char *prompt, enum shape *shape, enum color *color)
{
    int found = 0, before = -1;
    for (const char *at = prompt; *at;) {
        size_t length = 0;
        while (isalpha((unsigned char)at[length]))
            length++;
        if (length == 0) {
            before = *at == ' ' ? before : -1; /* only spaces separate the words of a phrase */
            at++;
            continue;
        }
        int seen = word_index(shape_names, SHAPE_COUNT, at, length);
        if (seen >= 0 && before >= 0 && ++found == 1) {
            *shape = (enum shape)seen;
            *color = (enum color)before;
        }
        before = word_index(color_names, COLOR_COUNT, at, length);
        at += length;
    }
    return found == 1;
}
