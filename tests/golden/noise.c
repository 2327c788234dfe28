#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "formats/weights/weights.h"
#include "tests/support/tap.h"

/* w is named `seedS`: the first normals drawn with seed S. */
static void check(const struct weight *w)
{
    char *end;
    uint64_t seed = strtoull(w->name + strlen("seed"), &end, 10);
    size_t n = (size_t)weight_count(w);
    float *expected = xmalloc(n * sizeof *expected), *ours = xmalloc(n * sizeof *ours);
    weight_to_f32(w, expected);
    rng_torch_normal(ours, n, seed, 0);
    double worst = max_abs_difference(ours, expected, n);
    tap_ok(!*end && n > 0 && worst <= 2e-6, "noise.safetensors: %s: %zu normals, worst %.2g",
           w->name, n, worst);

    rng_torch_normal(ours, n - n / 3, seed, n / 3);
    worst = max_abs_difference(ours, expected + n / 3, n - n / 3);
    tap_ok(worst <= 2e-6, "noise.safetensors: %s: from element %zu, worst %.2g", w->name, n / 3,
           worst);
    free(expected);
    free(ours);
}

int main(int argc, char **argv)
{
    message_init(argv[0]);
    char *path = path_join(argc > 1 ? argv[1] : "tests/golden/data", "noise.safetensors");
    struct weights *w;
    struct error e;
    if (!file_exists(path)) {
        tap_skip("not in this folder", "noise.safetensors");
    } else if (weights_open(&w, path, &e)) {
        tap_ok(false, "noise.safetensors: %s", e.text);
    } else {
        for (int i = 0; i < weights_count(w); i++)
            if (!strncmp(weights_at(w, i)->name, "seed", 4))
                check(weights_at(w, i));
        weights_close(w);
    }
    free(path);
    return tap_done();
}
