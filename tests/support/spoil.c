#include "tests/support/spoil.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "common/base/rng.h"

void spoil(struct image *image, uint64_t seed)
{
    static const int weights[] = {1, 2, 1};
    int w = image->width, h = image->height;
    uint8_t *sharp = xmalloc(image_bytes(image));
    memcpy(sharp, image->pixels, image_bytes(image));
    for (int i = 0; i < 3 * w * h; i++) {
        float u;
        int x = i / 3 % w, y = i / 3 / w, sum = 0, total = 0;
        for (int k = 0; k < 9; k++) {
            int nx = x + k % 3 - 1, ny = y + k / 3 - 1, weight = weights[k % 3] * weights[k / 3];
            if (nx < 0 || ny < 0 || nx >= w || ny >= h)
                continue;
            sum += weight * sharp[3 * (ny * w + nx) + i % 3];
            total += weight;
        }
        rng_uniform(&u, 1, seed, RNG_SHAPES, 98, 0, (uint64_t)i);
        float value = (float)sum / (float)total + 20 * u - 10;
        image->pixels[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
    free(sharp);
}

void fill_noise(struct image *image, uint64_t seed, int grain)
{
    int columns = image->width / grain;
    for (int i = 0; i < image->width * image->height; i++) {
        uint32_t words[4];
        int cell = i / image->width / grain * columns + i % image->width / grain;
        rng_words(words, seed, RNG_SHAPES, 99, (uint64_t)cell, 0);
        for (int c = 0; c < 3; c++)
            image->pixels[3 * i + c] = (uint8_t)(words[c] >> 24);
    }
}
