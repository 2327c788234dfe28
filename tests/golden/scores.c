/* Distances between sets of embeddings against numpy and scipy: tests/golden/data/scores.py. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/score/distances.h"
#include "formats/weights/weights.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"

static const struct weight *find(const struct weights *w, const char *name, const char *part)
{
    char *full = xasprintf("%s.%s", name, part);
    const struct weight *t = weights_find(w, full);
    if (!t)
        die("scores.safetensors: no %s", full);
    free(full);
    return t;
}

static struct embeddings read_set(const struct weights *w, const char *name, const char *part)
{
    const struct weight *t = find(w, name, part);
    struct embeddings x = {.count = t->shape[0], .width = t->shape[1]};
    x.values = xmalloc(weight_bytes(t));
    x.paths = xcalloc((size_t)x.count, sizeof *x.paths);
    weight_to_f32(t, x.values);
    return x;
}

/* Relative to `expected` or, where it is close to zero, absolute. */
static void compare(const char *name, const char *what, double ours, double expected,
                    double tolerance, double least)
{
    double error = fabs(ours - expected) / fmax(fabs(expected), least);
    tap_ok(error <= tolerance, "scores.safetensors: %s: %s: %.12g for %.12g, error %.2g", name,
           what, ours, expected, error);
}

/* Order: those of `expected` in scores.py. */
static void check_set(struct tape *t, const struct weights *w, const char *name)
{
    struct embeddings samples = read_set(w, name, "samples");
    struct embeddings reference = read_set(w, name, "reference");
    const double *expected = find(w, name, "expected")->data;
    struct frechet frechet;
    struct distances d;
    struct error e;
    int64_t *order = xmalloc((size_t)samples.count * sizeof *order);
    for (int64_t i = 0; i < samples.count; i++)
        order[i] = i;
    frechet_measure(&frechet, &samples, order, &reference);
    compare(name, "frechet", frechet.distance, expected[0], 1e-4, 1e-4);
    compare(name, "frechet_infinite", frechet.infinite, expected[1], 1e-4, 1e-4);
    if (distances_measure(&d, t, &samples, &reference, 3, &e) != 0)
        die("%s", e.text);
    compare(name, "frechet in another order", d.frechet.distance, expected[0], 1e-4, 1e-4);
    compare(name, "kernel", d.kernel.mean, expected[2], 1e-6, 1e-6);
    compare(name, "deviation of subsets of all", d.kernel.deviation, 0, 1e-7, 1);
    compare(name, "precision", d.neighbours.precision, expected[3], 1e-12, 1);
    compare(name, "recall", d.neighbours.recall, expected[4], 1e-12, 1);
    compare(name, "density", d.neighbours.density, expected[5], 1e-12, 1);
    compare(name, "coverage", d.neighbours.coverage, expected[6], 1e-12, 1);
    compare(name, "memorised", d.neighbours.memorised, expected[7], 1e-12, 1);
    distances_release(&d);
    free(order);
    embeddings_release(&samples);
    embeddings_release(&reference);
}

static void check_all(const struct weights *w)
{
    struct device *device = subject_open(subject_devices()[0]);
    struct tape tape;
    tape_init(&tape, device);
    for (int i = 0; i < weights_count(w); i++) {
        char *name = xstrdup(weights_at(w, i)->name), *dot = strchr(name, '.');
        if (dot && strcmp(dot, ".expected") == 0) {
            *dot = 0;
            check_set(&tape, w, name);
        }
        free(name);
    }
    tape_release(&tape);
    tap_ok(device_memory(device).in_use == 0, "scores.safetensors: all tensors were released");
    device_close(device);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    char *path = path_join(argc > 1 ? argv[1] : "tests/golden/data", "scores.safetensors");
    struct weights *w;
    struct error e;
    if (!file_exists(path)) {
        tap_skip("not in this folder", "scores.safetensors");
    } else if (weights_open(&w, path, &e)) {
        tap_ok(false, "scores.safetensors: %s", e.text);
    } else {
        check_all(w);
        weights_close(w);
    }
    free(path);
    return tap_done();
}
