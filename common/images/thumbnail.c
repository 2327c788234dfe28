#include "common/images/thumbnail.h"

#include <math.h>

#define SIDE SHARD_THUMBNAIL_SIDE

/* Adds a row to the sums of SIDE cells. Pixel x covers [SIDE x, SIDE (x + 1)) and cell c
 * [width c, width (c + 1)). All terms are integers, so that their order does not matter. */
static void add_row(double sums[SIDE], const float *row, int width, double weight)
{
    for (int c = 0; c < SIDE; c++) {
        int64_t begin = (int64_t)width * c, end = begin + width;
        double sum = 0;
        for (int64_t x = begin / SIDE; x * SIDE < end; x++) {
            int64_t from = x * SIDE > begin ? x * SIDE : begin;
            int64_t to = (x + 1) * SIDE < end ? (x + 1) * SIDE : end;
            sum += (double)(to - from) * rint(((double)row[x] + 1) * 127.5);
        }
        sums[c] += weight * sum;
    }
}

void thumbnail_make(uint8_t thumbnail[SHARD_THUMBNAIL_BYTES], const float *image, int height,
                    int width)
{
    double area = (double)height * width;
    for (int plane = 0; plane < 3; plane++)
        for (int r = 0; r < SIDE; r++) {
            int64_t begin = (int64_t)height * r, end = begin + height;
            double sums[SIDE] = {0};
            for (int64_t y = begin / SIDE; y * SIDE < end; y++) {
                int64_t from = y * SIDE > begin ? y * SIDE : begin;
                int64_t to = (y + 1) * SIDE < end ? (y + 1) * SIDE : end;
                const float *row = image + ((int64_t)plane * height + y) * width;
                add_row(sums, row, width, (double)(to - from));
            }
            for (int c = 0; c < SIDE; c++)
                *thumbnail++ = (uint8_t)(sums[c] / area + 0.5);
        }
}
