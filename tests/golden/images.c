#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/images/prepare.h"
#include "formats/images/image.h"
#include "formats/weights/weights.h"
#include "tests/support/tap.h"

/* Prepares every image in the folder both ways and compares it with Pillow's result, which gives
 * the size. */

static int compare(const struct image *got, const struct image *want, double *mean)
{
    int worst = 0;
    double sum = 0;
    size_t pixels = (size_t)want->width * (size_t)want->height;
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++) {
            size_t gc = got->channels == 1 ? 0 : c, wc = want->channels == 1 ? 0 : c;
            int d = abs(got->pixels[i * (size_t)got->channels + gc] -
                        want->pixels[i * (size_t)want->channels + wc]);
            sum += d;
            if (d > worst)
                worst = d;
        }
    *mean = sum / (3.0 * (double)pixels);
    return worst;
}

static void check_image(const char *images, const char *name, const char *kind,
                        enum prepare_color how, int tolerance)
{
    char *in_path = path_join(images, name);
    char *want_path = xasprintf("%s/%s/%s.png", images, kind, name);
    struct image want = {0}, in = {0}, out = {0};
    struct error e;
    bool is_read = image_read(&in, in_path, 0, &e) == 0;
    bool lossy = in.format == IMAGE_HEIF || in.format == IMAGE_AVIF || in.format == IMAGE_JXL;
    tolerance += is_read && lossy ? 2 : 0; /* versions of the libraries round differently */
    if (!file_exists(want_path)) {
        tap_skip("no such file", "%s/%s.png", kind, name);
    } else if (!is_read && strncmp(e.text, "built without", 13) == 0) {
        tap_skip(e.text, "%s as %s", name, kind);
    } else if (!is_read || image_read(&want, want_path, 0, &e) < 0 ||
               prepare_color(&in, how, &e) < 0 ||
               (want.width == want.height
                    ? prepare_square(&out, &in, want.width, &e)
                    : prepare_cover(&out, &in, want.width, want.height, &e)) < 0) {
        tap_ok(false, "%s as %s: %s", name, kind, e.text);
    } else {
        double mean = 0;
        bool alike = want.depth == 8 && want.color != IMAGE_CMYK &&
                     (!want.alpha || want.alpha_from_key); /* Pillow kept the color key */
        int worst = alike ? compare(&out, &want, &mean) : 256;
        tap_ok(worst <= tolerance, "%s as %s, %dx%d: within %d of 255, mean %.5f", name, kind,
               want.width, want.height, worst, mean);
    }
    image_release(&want);
    image_release(&in);
    image_release(&out);
    free(in_path);
    free(want_path);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void check_folder(const char *folder, const char *room)
{
    char *images = path_join(folder, room);
    struct dirent **entries;
    int n = scandir(images, &entries, NULL, by_name), found = 0;
    for (int i = 0; i < n; i++) {
        char *path = path_join(images, entries[i]->d_name);
        struct stat st;
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            check_image(images, entries[i]->d_name, "pil", PREPARE_PIL, 0);
            check_image(images, entries[i]->d_name, "display", PREPARE_DISPLAY, 1);
            found++;
        }
        free(path);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    if (found == 0)
        tap_skip("no images", "%s", images);
    free(images);
}

/* The metadata's `in` is "PATH / 255". */
static void check_cloob_resize(const char *folder)
{
    char *path = path_join(folder, "cloob_resize.safetensors"), *image_path = NULL;
    struct weights *w = NULL;
    struct image image = {0};
    struct error e;
    if (!file_exists(path)) {
        tap_skip("no such file", "cloob_resize.safetensors");
        goto done;
    }
    if (weights_open(&w, path, &e) < 0) {
        tap_ok(false, "cloob_resize.safetensors: %s", e.text);
        goto done;
    }
    const char *in = weights_metadata(w, "in");
    const char *end = in ? strstr(in, " / 255") : NULL;
    image_path = xasprintf("%s/%.*s", folder, end ? (int)(end - in) : 0, in ? in : "");
    if (end && !file_exists(image_path)) {
        tap_skip("its input is missing", "cloob_resize.safetensors");
        goto done;
    }
    if (!end || image_read(&image, image_path, 0, &e) < 0 ||
        prepare_color(&image, PREPARE_PIL, &e) < 0) {
        tap_ok(false, "cloob_resize.safetensors: input '%s'", in ? in : "");
        goto done;
    }
    float *x = xmalloc(sizeof(float) * 3 * (size_t)image.width * (size_t)image.height);
    prepare_to_float(x, &image);
    for (int i = 0; i < weights_count(w); i++) {
        const struct weight *t = weights_at(w, i);
        if (strncmp(t->name, "out.", 4) != 0)
            continue;
        if (t->ndim != 3 || t->shape[0] != 3) {
            tap_ok(false, "cloob_resize.safetensors, %s: unexpected shape", t->name);
            continue;
        }
        size_t n = (size_t)weight_count(t);
        float *want = xmalloc(n * sizeof *want), *got = xmalloc(n * sizeof *got);
        weight_to_f32(t, want);
        prepare_bicubic(got, (int)t->shape[1], (int)t->shape[2], x, 3, image.height, image.width);
        double d = max_abs_difference(got, want, n), relative = relative_l2(got, want, n);
        /* A float coordinate near 256 is accurate to 1.5e-5 pixels; edges have slopes up to 1. */
        tap_ok(d <= 3e-5 && relative <= 1e-5,
               "cloob_resize.safetensors, %s of %.*s: "
               "within %.2g, relative %.2g",
               t->name, (int)(end - in), in, d, relative);
        free(want);
        free(got);
    }
    free(x);
done:
    weights_close(w);
    image_release(&image);
    free(image_path);
    free(path);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "tests/golden/data";
    check_folder(folder, "images");
    check_folder(folder, "formats");
    check_cloob_resize(folder);
    return tap_done();
}
