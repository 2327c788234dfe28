#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/options.h"
#include "common/base/progress.h"
#include "common/images/prepare.h"
#include "formats/images/image.h"

/* Times the preparation of images on one core, stage by stage: files are read once, then every
 * round prepares all of them; prints the median round. MB counts the stage's input. */

enum { DECODE, COLOR, RESIZE, TO_FLOAT, ALL, STAGES };
static const char *const stage_names[STAGES] = {"decode", "color", "resize", "to float", "all"};

struct file {
    char *path;
    uint8_t *data;
    size_t size;
};

struct totals {
    double seconds[STAGES], bytes[STAGES], pixels;
};

static void prepare(struct totals *t, const struct file *f, int size, enum prepare_color how,
                    float *out)
{
    struct image image, crop;
    struct error e;
    double at[STAGES];
    at[DECODE] = seconds_now();
    if (image_decode(&image, f->data, f->size, 0, &e) < 0)
        die("cannot read '%s': %s", f->path, e.text);
    at[COLOR] = seconds_now();
    t->bytes[COLOR] += (double)image_bytes(&image);
    t->pixels += (double)image.width * image.height;
    if (prepare_color(&image, how, &e) < 0)
        die("cannot prepare '%s': %s", f->path, e.text);
    at[RESIZE] = seconds_now();
    t->bytes[RESIZE] += (double)image_bytes(&image);
    if (prepare_square(&crop, &image, size, &e) < 0)
        die("cannot resize '%s': %s", f->path, e.text);
    at[TO_FLOAT] = seconds_now();
    t->bytes[TO_FLOAT] += (double)image_bytes(&crop);
    prepare_to_float(out, &crop);
    at[ALL] = seconds_now();
    for (int s = 0; s < ALL; s++)
        t->seconds[s] += at[s + 1] - at[s];
    t->seconds[ALL] += at[ALL] - at[DECODE];
    t->bytes[DECODE] += (double)f->size;
    t->bytes[ALL] += (double)f->size;
    image_release(&image);
    image_release(&crop);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void report(const struct totals *rounds, int64_t n, int files)
{
    double *seconds = xmalloc((size_t)n * sizeof *seconds);
    printf("%d images, %.1f megapixels, median of %" PRId64 " rounds, one core\n", files,
           rounds[0].pixels / 1e6, n);
    for (int s = 0; s < STAGES; s++) {
        for (int64_t i = 0; i < n; i++)
            seconds[i] = rounds[i].seconds[s];
        double t = median(seconds, (int)n);
        printf("%-8s %9.2f ms %9.1f images/s %9.1f MB/s %8.1f megapixels/s\n", stage_names[s],
               t * 1e3, files / t, rounds[0].bytes[s] / 1e6 / t, rounds[0].pixels / 1e6 / t);
    }
    free(seconds);
}

int main(int argc, char **argv)
{
    int64_t size = 256, repeat = 11;
    bool pil = false;
    const struct option options[] = {
        {.name = "size",
         .kind = OPTION_INT,
         .value = &size,
         .argument = "N",
         .min = 1,
         .max = 8192,
         .help = "side of the square output"},
        {.name = "repeat",
         .kind = OPTION_INT,
         .value = &repeat,
         .argument = "N",
         .min = 1,
         .max = 1000,
         .help = "rounds of all images"},
        {.name = "pil-compat",
         .kind = OPTION_FLAG,
         .value = &pil,
         .help = "convert as Pillow does"},
        {0},
    };
    const struct program program = {.name = "bench-decode",
                                    .summary = "Time the preparation of images",
                                    .usage = "[OPTION]... [IMAGE]...",
                                    .options = options};
    int n = options_parse(&program, argc, argv);
    glob_t found = {0};
    char **paths = argv + 1;
    if (n == 0 && glob("tests/golden/data/images/*.jpg", 0, NULL, &found) == 0) {
        paths = found.gl_pathv;
        n = (int)found.gl_pathc;
    }
    if (n == 0)
        die_usage("no images given");
    struct file *files = xcalloc((size_t)n, sizeof *files);
    struct error e;
    for (int i = 0; i < n; i++) {
        files[i].path = paths[i];
        if (file_read(&files[i].data, &files[i].size, paths[i], SIZE_MAX / 2, &e) < 0)
            die("cannot read '%s': %s", paths[i], e.text);
    }
    struct totals *rounds = xcalloc((size_t)repeat, sizeof *rounds);
    float *out = xmalloc(sizeof(float) * 3 * (size_t)(size * size));
    for (int64_t r = 0; r < repeat; r++)
        for (int i = 0; i < n; i++)
            prepare(&rounds[r], &files[i], (int)size, pil ? PREPARE_PIL : PREPARE_DISPLAY, out);
    report(rounds, repeat, n);
    for (int i = 0; i < n; i++)
        free(files[i].data);
    free(files);
    free(rounds);
    free(out);
    globfree(&found);
    return 0;
}
