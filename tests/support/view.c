#include "tests/support/view.h"

static float channel(const struct image *image, int x, int y, int c)
{
    size_t i = ((size_t)y * (size_t)image->width + (size_t)x) * (size_t)image->channels;
    i += image->channels >= 3 ? (size_t)c : 0;
    return image->depth == 16 ? (float)((const uint16_t *)image->pixels)[i] / 65535
                              : (float)image->pixels[i] / 255;
}

void view_pixels(struct oklab pixels[VIEW_PIXELS], int *width, int *height,
                 const struct image *image)
{
    int longest = image->width > image->height ? image->width : image->height;
    float scale = longest > VIEW_SIDE ? (float)longest / VIEW_SIDE : 1;
    *width = (int)((float)image->width / scale);
    *height = (int)((float)image->height / scale);
    for (int i = 0; i < *width * *height; i++) {
        int x0 = (int)((float)(i % *width) * scale), y0 = (int)((float)(i / *width) * scale);
        int n = scale > 1 ? (int)(scale + 0.5f) : 1;
        float rgb[3] = {0};
        int count = 0;
        for (int y = y0; y < y0 + n && y < image->height; y++)
            for (int x = x0; x < x0 + n && x < image->width; x++, count++)
                for (int c = 0; c < 3; c++)
                    rgb[c] += channel(image, x, y, c);
        for (int c = 0; c < 3; c++)
            rgb[c] /= (float)count;
        pixels[i] = oklab_from_srgb(rgb);
    }
}
