#include "tests/things/backdrop.h"

#include <math.h>
#include <stdbool.h>

#include "tests/things/things.h"

/* In oklab_distance. */
#define TOLERATED 0.11f /* of a border's pixel; a thing that reaches the border counts no more */
#define MOST      0.06f /* on average, of a background that fits */

#define SIDE  VIEW_SIDE
#define EDGE  (4 * SIDE - 4) /* pixels of the border */
#define REACH 4              /* rows */

/* The border, clockwise from the top left. */
static int edge_pixel(int i)
{
    int side = i / (SIDE - 1), k = i % (SIDE - 1);
    const int x[] = {k, SIDE - 1, SIDE - 1 - k, 0}, y[] = {0, k, SIDE - 1, SIDE - 1 - k};
    return y[side] * SIDE + x[side];
}

static struct oklab tone_between(const uint8_t from[3], const uint8_t to[3], float share)
{
    float rgb[3];
    share = fminf(fmaxf(share, 0), 1);
    for (int c = 0; c < 3; c++)
        rgb[c] = ((float)from[c] * (1 - share) + (float)to[c] * share) / 255;
    return oklab_from_srgb(rgb);
}

/* How far a color at height y, 0 to 1, is from the background's tones there. The ground may begin
 * at 0.45 to 0.7. */
static float distance_from(const struct scenery *s, struct oklab color, float y)
{
    const uint8_t(*t)[3] = s->tones;
    if (s->kind == SCENERY_PLAIN)
        return oklab_distance(color, tone_between(t[0], t[0], 0));
    if (s->kind == SCENERY_GRADIENT)
        return oklab_distance(color, y < 0.5f ? tone_between(t[0], t[1], 2 * y)
                                              : tone_between(t[1], t[2], 2 * y - 1));
    float sky = oklab_distance(color, tone_between(t[0], t[1], y / 0.58f));
    float ground = oklab_distance(color, tone_between(t[2], t[3], (y - 0.58f) / 0.42f));
    return y < 0.45f ? sky : y > 0.7f ? ground : fminf(sky, ground);
}

static float height_of(int pixel)
{
    return ((float)(pixel / SIDE) + 0.5f) / SIDE;
}

int backdrop_find(const struct oklab pixels[VIEW_PIXELS])
{
    int best = -1;
    float least = MOST;
    for (int k = 0; k < SCENERIES; k++) {
        float sum = 0;
        for (int i = 0; i < EDGE; i++) {
            int p = edge_pixel(i);
            sum += fminf(distance_from(&sceneries[k], pixels[p], height_of(p)), TOLERATED);
        }
        if (sum / EDGE < least) {
            least = sum / EDGE;
            best = k;
        }
    }
    return best;
}

void backdrop_fill(struct oklab behind[VIEW_PIXELS], const struct oklab pixels[VIEW_PIXELS],
                   int scenery)
{
    bool usable[VIEW_PIXELS] = {false};
    for (int i = 0; i < EDGE; i++) {
        int p = edge_pixel(i);
        usable[p] =
            scenery < 0 || distance_from(&sceneries[scenery], pixels[p], height_of(p)) < TOLERATED;
    }
    for (int i = 0; i < VIEW_PIXELS; i++) {
        int y = i / SIDE;
        float nearest = INFINITY;
        for (int row = y - REACH; row <= y + REACH; row++)
            for (int k = 0; k < 2; k++) {
                int p = row * SIDE + k * (SIDE - 1);
                if (row < 0 || row >= SIDE || !usable[p])
                    continue;
                float distance = oklab_distance(pixels[p], pixels[i]);
                if (distance < nearest) {
                    nearest = distance;
                    behind[i] = pixels[p];
                }
            }
        if (nearest == INFINITY) /* things reach the border on both sides */
            behind[i] = scenery < 0 ? pixels[i]
                                    : tone_between(sceneries[scenery].tones[0],
                                                   sceneries[scenery].tones[0], 0);
    }
}
