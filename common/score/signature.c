#include "common/score/signature.h"

#include <math.h>

enum { SIDE = SHARD_THUMBNAIL_SIDE, CELLS = SIDE * SIDE, HALF = SIDE / 2, CHROMA = HALF * HALF };
_Static_assert(SIGNATURE_WIDTH == CELLS + 2 * CHROMA, "luma, Cb and Cr");

#define CHROMA_WEIGHT 0.4
#define MIDDLE        128.0
/* At least the length of a signature in levels: sqrt(128^2 + 2 (127.5 CHROMA_WEIGHT)^2). */
#define LONGEST 148.0

/* JFIF 1.02, without the offset of chroma: red, green and blue of luma, Cb and Cr. */
static const double coefficients[3][3] = {
    {0.299, 0.587, 0.114}, {-0.168736, -0.331264, 0.5}, {0.5, -0.418688, -0.081312}};

static double convert(const uint8_t *thumbnail, int cell, int component)
{
    const double *c = coefficients[component];
    return c[0] * thumbnail[cell] + c[1] * thumbnail[CELLS + cell] +
           c[2] * thumbnail[2 * CELLS + cell];
}

static double mean_of_four(const uint8_t *thumbnail, int row, int column, int component)
{
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += convert(thumbnail, (2 * row + i / 2) * SIDE + 2 * column + i % 2, component);
    return sum / 4;
}

void signature_make(float row[SIGNATURE_WIDTH], const uint8_t thumbnail[SHARD_THUMBNAIL_BYTES])
{
    for (int i = 0; i < CELLS; i++)
        *row++ = (float)((convert(thumbnail, i, 0) - MIDDLE) / (SIDE * LONGEST));
    for (int component = 1; component < 3; component++)
        for (int i = 0; i < CHROMA; i++)
            *row++ = (float)(mean_of_four(thumbnail, i / HALF, i % HALF, component) *
                             (CHROMA_WEIGHT / (HALF * LONGEST)));
}

void signature_mirror(int columns[SIGNATURE_WIDTH])
{
    for (int i = 0; i < SIGNATURE_WIDTH; i++) {
        int side = i < CELLS ? SIDE : HALF, at = i % side;
        columns[i] = i - at + side - 1 - at;
    }
}

double signature_distance(double levels)
{
    return levels * levels / (2 * LONGEST * LONGEST);
}

double signature_levels(double distance)
{
    return LONGEST * sqrt(2 * distance);
}
