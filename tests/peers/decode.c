#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/message.h"
#include "common/base/options.h"
#include "common/images/prepare.h"
#include "common/program/output.h"
#include "formats/images/image.h"

/* Writes the pixels of an image as a PPM, in the colors of --pil-compat or, with --display, those a
 * person sees, for comparisons with other readers. */

static void write_rgb(const struct image *image)
{
    size_t pixels = (size_t)image->width * (size_t)image->height, step = (size_t)image->channels;
    uint8_t *rgb = xmalloc(3 * pixels);
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++)
            rgb[3 * i + c] = image->pixels[i * step + (step == 1 ? 0 : c)];
    printf("P6\n%d %d\n255\n", image->width, image->height);
    fwrite(rgb, 3, pixels, stdout);
    free(rgb);
}

int main(int argc, char **argv)
{
    bool display = false, truncated = false;
    const struct option options[] = {
        {.name = "display",
         .kind = OPTION_FLAG,
         .value = &display,
         .help = "orientation, profile and alpha applied, not as Pillow converts"},
        {.name = "allow-truncated",
         .kind = OPTION_FLAG,
         .value = &truncated,
         .help = "as that option of ccld-encode"},
        {0},
    };
    const struct program program = {.name = "decode",
                                    .summary = "Write the pixels of an image as a PPM.",
                                    .usage = "[OPTION]... IMAGE",
                                    .options = options};
    if (options_parse(&program, argc, argv) != 1)
        die_usage("one image, please");
    enum prepare_color how = display ? PREPARE_DISPLAY : PREPARE_PIL;
    struct image_options read = prepare_options(how, 0, truncated);
    struct image image;
    struct error e;
    if (image_read_with(&image, argv[1], &read, &e) != 0)
        die("cannot read '%s': %s", argv[1], e.text);
    if (image.warning[0])
        warn("'%s': %s", argv[1], image.warning);
    if (prepare_color(&image, how, &e) != 0)
        die("cannot convert '%s': %s", argv[1], e.text);
    write_rgb(&image);
    image_release(&image);
    output_finish();
    return 0;
}
