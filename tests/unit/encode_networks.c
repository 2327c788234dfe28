#include "common/encode/networks.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/tap.h"

/* Files of exactly the networks' size need no resampling, so every number is known. */

static uint8_t value(int y, int x, int c)
{
    return (uint8_t)(y * 37 + x * 11 + c * 101);
}

static char *write_image(const char *name, int height, int width)
{
    char *path = path_join(test_folder(), name);
    FILE *f = fopen(path, "wb");
    CHECK(f);
    fprintf(f, "P6\n%d %d\n255\n", width, height);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                putc(value(y, x, c), f);
    }
    CHECK(fclose(f) == 0);
    return path;
}

static int prepare(const struct encoder *en, const char *path, float *image, float *square,
                   int *width, int *height, char remark[128], struct error *e)
{
    uint8_t *data;
    size_t size;
    CHECK(image_read_bytes(&data, &size, path, e) == 0);
    struct encode_file file = {.path = path, .data = data, .size = size};
    int status = en->prepare(en->context, &file, image, square, width, height, remark, e);
    free(data);
    return status;
}

static void check(int height, int width, int side)
{
    char *path = write_image("image.ppm", height, width);
    struct encode_networks m = {
        .color = PREPARE_PIL, .height = height, .width = width, .side = side};
    struct shard_info info = {
        .latent_channels = 4, .latent_height = 1, .latent_width = 1, .embed_size = 8};
    struct encoder en;
    encode_networks_encoder(&en, &m, &info);
    tap_ok(en.image_floats == 3 * (size_t)height * (size_t)width &&
               en.square_floats == 3 * (size_t)side * (size_t)side && en.moments_floats == 8 &&
               en.embed_floats == 8,
           "%dx%d, CLOOB %d: counts", height, width, side);
    float *image = xmalloc(en.image_floats * sizeof *image);
    float *square = xmalloc(en.square_floats * sizeof *square);
    char remark[128];
    int w = 0, h = 0;
    struct error e = {""};
    bool good =
        prepare(&en, path, image, square, &w, &h, remark, &e) == 0 && w == width && h == height;
    tap_ok(good, "the file is prepared: %s", e.text);
    for (int c = 0; good && c < 3; c++) {
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                good &= image[(c * height + y) * width + x] ==
                        (float)value(y, x, c) / 255.0f * 2.0f - 1.0f;
            }
        }
    }
    tap_ok(good, "the image has the file's pixels in [-1, 1], as RGB planes");

    int crop = height < width ? height : width;
    int top = (height - crop) / 2, left = (width - crop) / 2;
    float *middle = xmalloc(3 * (size_t)crop * (size_t)crop * sizeof *middle);
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < crop; y++)
            for (int x = 0; x < crop; x++)
                middle[(c * crop + y) * crop + x] = (float)value(top + y, left + x, c) / 255.0f;
    }
    float *expected = xmalloc(en.square_floats * sizeof *expected);
    prepare_bicubic(expected, side, side, middle, 3, crop, crop);
    tap_ok(good &&
               max_abs_difference(square, side == crop ? middle : expected, en.square_floats) == 0,
           "CLOOB's input is its middle square in [0, 1]");
    free(middle);
    free(expected);
    free(image);
    free(square);
    free(path);
}

int main(void)
{
    check(16, 16, 16);
    check(16, 16, 14);
    check(16, 24, 16);
    check(24, 16, 14);
    struct encode_networks m = {.height = 16, .width = 16, .side = 16, .max_pixels = 100};
    struct shard_info info = {0};
    struct encoder en;
    struct error e = {""};
    float image[3 * 16 * 16], square[3 * 16 * 16];
    char remark[128], *path = write_image("large.ppm", 16, 16);
    int w, h;
    encode_networks_encoder(&en, &m, &info);
    tap_ok(prepare(&en, path, image, square, &w, &h, remark, &e) == -1 && *e.text,
           "an image over the limit is rejected: %s", e.text);
    free(path);
    return tap_done();
}
