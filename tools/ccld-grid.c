/* Arranges the images of a stream or of files in a grid and writes it as PNG. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/text.h"
#include "common/images/grid.h"
#include "common/images/grid_parameters.h"
#include "formats/images/image.h"
#include "common/program/output.h"

static struct {
    int64_t columns, padding, max_pixels;
    const char *output;
    bool labels, fit;
} options = {.max_pixels = IMAGE_DEFAULT_MAX_PIXELS};

static const struct option option_table[] = {
    {.name = "columns",
     .letter = 'c',
     .kind = OPTION_INT,
     .value = &options.columns,
     .argument = "N",
     .help = "images per row, 0 for about as many rows as columns",
     .max = GRID_MAX_IMAGES},
    {.name = "padding",
     .letter = 'p',
     .kind = OPTION_INT,
     .value = &options.padding,
     .argument = "PIXELS",
     .help = "width of the margin between and around images",
     .max = 10000},
    {.name = "labels",
     .kind = OPTION_FLAG,
     .value = &options.labels,
     .help = "write the prompts under the rows"},
    {.name = "fit",
     .kind = OPTION_FLAG,
     .value = &options.fit,
     .help = "scale images of other sizes to fit the size of the first one"},
    {.name = "output",
     .letter = 'o',
     .kind = OPTION_STRING,
     .value = &options.output,
     .argument = "FILE",
     .help = "write the PNG to FILE when it is complete (- is standard output)"},
    {.name = "max-pixels",
     .kind = OPTION_INT,
     .value = &options.max_pixels,
     .argument = "N",
     .help = "reject images with more pixels",
     .min = 1,
     .max = 1e12},
    {0},
};

static const struct program program = {
    .name = "ccld-grid",
    .summary = "Arranges images in a grid and writes it as a PNG image.\n"
               "Without FILE, or if FILE is -, reads an image stream from standard input.",
    .usage = "[OPTION]... [FILE]...",
    .options = option_table,
    .formats = image_formats,
    .computes_nothing = true,
};

static void read_images(struct grid *g, int files, char **paths)
{
    struct image_input source;
    struct error e;
    if (files == 0 && isatty(STDIN_FILENO))
        die_usage("no images: name files, or pipe an image stream to standard input");
    image_input_init(&source, paths, files, options.max_pixels);
    if (grid_add_all(g, &source, &e) != 0) {
        if (source.path && folder_exists(source.path))
            die("%s (find DIR -type f -exec ccld-grid {} + arranges its files)", e.text);
        die("%s", e.text);
    }
    image_input_release(&source);
    if (g->count == 0)
        die("no images: %s", files ? "the files contain none" : "standard input is empty");
}

static void warn_of_labels(const struct grid *g)
{
    for (int i = 0; i < g->count; i++)
        if (image_remarks_find(&g->remarks[i], "prompt"))
            return;
    warn("no labels: none of the images has a prompt, as those of ccld-plms have");
}

static void check_output(int files, char **paths)
{
    bool same = files == 0 && files_are_same(options.output, STANDARD_INPUT);
    for (int i = 0; i < files && !same; i++)
        same =
            files_are_same(options.output, strcmp(paths[i], "-") == 0 ? STANDARD_INPUT : paths[i]);
    if (same)
        die("cannot write '%s': it is one of the images of the grid", options.output);
}

/* A PNG file with the name of another format misleads programs, and may replace a photograph. */
static void check_name(void)
{
    static const char *const others[] = {".jpg",  ".jpeg", ".webp", ".gif", ".tif", ".tiff",
                                         ".bmp",  ".pbm",  ".pgm",  ".ppm", ".pnm", ".pam",
                                         ".avif", ".heic", ".heif", ".jxl"};
    const char *dot = strrchr(options.output, '.');
    for (size_t i = 0; dot && i < sizeof others / sizeof *others; i++)
        if (strcasecmp(dot, others[i]) == 0)
            die_usage("option '--output': '%s' ends in %s, but a grid is a PNG: name it .png",
                      options.output, dot);
}

static void write_file(const struct image *sheet, const struct image_text *text, int texts)
{
    struct error e;
    uint8_t *png;
    size_t size;
    if (png_encode(&png, &size, sheet, text, texts, -1, &e) != 0 ||
        file_write(options.output, png, size, &e) != 0)
        die("cannot write '%s': %s", options.output, e.text);
    free(png);
}

int main(int argc, char **argv)
{
    int files = options_parse(&program, argc, argv);
    if (options.output && strcmp(options.output, "-") == 0)
        options.output = NULL;
    if (!options.output) {
        output_begin_binary("redirect it, or name a file with -o");
    } else {
        check_name();
        check_output(files, argv + 1);
    }
    struct grid g = {.labels = options.labels, .fit = options.fit};
    read_images(&g, files, argv + 1);
    if (options.labels)
        warn_of_labels(&g);

    struct error e;
    struct image sheet = {0};
    int columns = options.columns ? (int)options.columns : grid_default_columns(g.count);
    if (grid_draw(&sheet, &g, columns, (int)options.padding, &e) != 0)
        die("cannot draw the grid: %s", e.text);
    struct image_text text = {"parameters", grid_parameters(&g)};
    int texts = text.value ? 1 : 0;
    if (options.output)
        write_file(&sheet, &text, texts);
    else if (png_write(stdout, &sheet, &text, texts, -1, &e) != 0)
        output_failed(&e);
    inform("%d image%s of %dx%d in a grid of %dx%d", g.count, plural(g.count), g.images[0].width,
           g.images[0].height, sheet.width, sheet.height);
    free(text.value);
    image_release(&sheet);
    grid_release(&g);
    return 0;
}
