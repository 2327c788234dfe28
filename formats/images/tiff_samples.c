#include "formats/images/tiff_samples.h"

/* As Pillow, to which 32-bit integers have a sign. */
static unsigned int clipped(const struct tiff_samples *s, const uint8_t *row, size_t i)
{
    double v;
    if (s->is_float)
        v = ((const float *)(const void *)row)[i];
    else if (s->bits == 16)
        v = ((const int16_t *)(const void *)row)[i];
    else
        v = ((const int32_t *)(const void *)row)[i];
    return v >= 255 ? 255 : v > 0 ? (unsigned int)v : 0; /* NaN is black */
}

static unsigned int sample_at(const struct tiff_samples *s, const uint8_t *row, size_t i)
{
    unsigned int bits = s->bits;
    if (s->clip)
        return clipped(s, row, i);
    if (bits == 8)
        return row[i] ^ (s->lab && i % s->count ? 0x80U : 0);
    if (bits == 16)
        return ((const uint16_t *)(const void *)row)[i];
    if (bits == 12) {
        const uint8_t *p = row + i / 2 * 3;
        unsigned int v = i % 2 ? (p[1] & 15U) << 8 | p[2] : (unsigned int)p[0] << 4 | p[1] >> 4;
        return (v * 65535 + 2047) / 4095;
    }
    unsigned int most = (1U << bits) - 1, at = (unsigned int)(i * bits % 8);
    unsigned int v = row[i * bits / 8] >> (8 - bits - at) & most;
    return s->map[0] ? v : v * 255 / most;
}

static void put(struct image *image, size_t at, unsigned int v)
{
    if (image->depth == 8)
        image->pixels[at] = (uint8_t)v;
    else
        ((uint16_t *)(void *)image->pixels)[at] = (uint16_t)v;
}

void tiff_samples_unpack(struct image *image, const struct tiff_samples *s, const uint8_t *row,
                         size_t x, size_t y, size_t count, size_t plane)
{
    bool palette = s->map[0] != NULL;
    size_t channels = (size_t)image->channels, step = s->planes ? 1 : s->count;
    size_t first = s->planes ? plane : 0, last = s->planes ? plane + 1 : s->count;
    unsigned int most = image->depth == 8 ? 255 : 65535;
    for (size_t i = 0; i < count; i++) {
        size_t to = (y * (size_t)image->width + x + i) * channels;
        for (size_t n = first; n < last; n++) {
            unsigned int v = sample_at(s, row, i * step + n - first);
            if (palette && n == 0)
                for (size_t c = 0; c < 3; c++)
                    put(image, to + c, s->map[c][v] >> 8);
            else if (n + (palette ? 2 : 0) < channels)
                put(image, to + n + (palette ? 2 : 0), s->invert && n == 0 ? most - v : v);
        }
    }
}

void tiff_unpremultiply(struct image *image)
{
    size_t channels = (size_t)image->channels;
    size_t n = (size_t)image->width * (size_t)image->height * channels;
    bool wide = image->depth == 16;
    const uint16_t *samples = (const uint16_t *)(const void *)image->pixels;
    for (size_t i = 0; i < n; i++) {
        size_t opacity = i / channels * channels + channels - 1;
        if (i == opacity)
            continue;
        uint32_t alpha = wide ? samples[opacity] >> 8 : image->pixels[opacity];
        uint32_t v = wide ? samples[i] >> 8 : image->pixels[i];
        v = alpha == 0 ? 0 : v >= alpha ? 255 : v * 255 / alpha;
        put(image, i, wide ? v * 257 : v);
    }
}
