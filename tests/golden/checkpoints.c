/* Every tensor of every file in checkpoints/ against expected.safetensors, bit for bit, and haiku
 * pickles against the formula that their weights are from. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/text.h"
#include "common/nets/network.h"
#include "formats/weights/weights.h"
#include "tests/support/synth.h"
#include "tests/support/tap.h"
#include "tests/support/weight_copy.h"

/* The expectation of a file's tensor: a bare state dict holds the EMA weights without a prefix. */
static const struct weight *expectation(const struct weights *expected, const char *name)
{
    const struct weight *t = weights_find(expected, name);
    char *ema = xasprintf("model_ema.%s", name);
    t = t ? t : weights_find(expected, ema);
    free(ema);
    return t;
}

/* expected.safetensors holds halves as floats, bools as bytes, scalars with one dimension. */
static bool same_tensor(const struct weight *got, const struct weight *want)
{
    bool half = got->dtype == DTYPE_F16 || got->dtype == DTYPE_BF16;
    enum dtype as = half ? DTYPE_F32 : got->dtype == DTYPE_BOOL ? DTYPE_U8 : got->dtype;
    if (as != want->dtype)
        return false;
    bool scalar = got->ndim == 0 && want->ndim == 1 && want->shape[0] == 1;
    if (!scalar && (got->ndim != want->ndim ||
                    memcmp(got->shape, want->shape, (size_t)got->ndim * sizeof *got->shape) != 0))
        return false;
    size_t n = (size_t)weight_count(got), size = dtype_size(as);
    uint8_t *a = xmalloc(n * size + 1), *b = xmalloc(n * size + 1);
    if (half)
        weight_to_f32(got, (float *)a);
    else
        weight_copy(got, a);
    weight_copy(want, b);
    bool same = memcmp(a, b, n * size) == 0;
    free(a);
    free(b);
    return same;
}

static void check_torch(const char *folder, const char *name, const struct weights *expected)
{
    struct weights *w;
    struct error e;
    char *path = path_join(folder, name);
    if (weights_open(&w, path, &e) != 0) {
        tap_ok(false, "%s: %s", name, e.text);
    } else {
        int compared = 0, wrong = 0, with_prefix = 0;
        for (int i = 0; i < weights_count(w); i++) {
            const struct weight *t = weights_at(w, i), *want = expectation(expected, t->name);
            if (!want && weight_count(t) == 0)
                continue; /* expected.safetensors has no empty tensors */
            if (!want || !same_tensor(t, want)) {
                tap_diag("%s: %s: %s", name, t->name, want ? "differs" : "not expected");
                wrong++;
            }
            compared++;
            with_prefix += weights_find(expected, t->name) != NULL;
        }
        int missing = 0;
        for (int i = 0; with_prefix > 0 && i < weights_count(expected); i++) {
            const char *n = weights_at(expected, i)->name;
            if (with_prefix == compared && !weights_find(w, n)) {
                tap_diag("%s: %s is missing", name, n);
                missing++;
            }
        }
        tap_ok(compared > 0 && wrong == 0 && missing == 0, "%s (%s): %d tensors", name,
               weights_format(w), compared);
        weights_close(w);
    }
    free(path);
}

/* Parameters that n lacks; cloob_tiny.safetensors has the gradient of each. */
static int count_missing(const struct named_weights *n, const struct weights *golden)
{
    int missing = 0;
    for (int i = 0; i < weights_count(golden); i++) {
        const char *name = weights_at(golden, i)->name;
        if (strncmp(name, "gnorm.", 6) == 0 && !names_find(n, name + 6)) {
            tap_diag("%s is missing", name + 6);
            missing++;
        }
    }
    return missing;
}

static void check_haiku(const char *folder, const char *name, const struct weights *cloob)
{
    uint64_t seed = strtoull(weights_metadata(cloob, "seed"), NULL, 10);
    struct weights *w;
    struct named_weights n;
    struct error e;
    char *path = path_join(folder, name);
    if (weights_open(&w, path, &e) != 0) {
        tap_ok(false, "%s: %s", name, e.text);
    } else if (names_resolve(&n, w, NET_CLOOB, PICK_EMA, &e) != 0) {
        tap_ok(false, "%s: %s", name, e.text);
        weights_close(w);
    } else {
        int wrong = count_missing(&n, cloob);
        for (int i = 0; i < n.count; i++) {
            const struct weight *t = &n.items[i];
            size_t count = (size_t)weight_count(t);
            float *got = xmalloc(count * sizeof *got), *want = xmalloc(count * sizeof *want);
            weight_to_f32(t, got);
            synth_weight(want, t->name, t->ndim, t->shape, seed);
            if (memcmp(got, want, count * sizeof *got) != 0) {
                tap_diag("%s: %s differs", name, t->name);
                wrong++;
            }
            free(got);
            free(want);
        }
        char line[200];
        bool described = network_describe(line, sizeof line, &n, &e) == 0;
        tap_ok(n.count > 0 && wrong == 0 && described, "%s (%s): %d tensors; %s", name,
               n.description, n.count, described ? line : e.text);
        names_release(&n);
        weights_close(w);
    }
    free(path);
}

/* The hostile pickles would create this file if their code ran. */
#define MARKER "/tmp/ccld-pickle-ran"

static void check_hostile(const char *folder, const char *name)
{
    struct stat before, after;
    bool was = stat(MARKER, &before) == 0;
    struct weights *w;
    struct error e;
    char *path = path_join(folder, name);
    bool refused = weights_open(&w, path, &e) != 0;
    int count = refused ? 0 : weights_count(w), opaque = refused ? 0 : weights_opaque_count(w);
    if (!refused)
        weights_close(w);
    bool is = stat(MARKER, &after) == 0;
    bool ran = is && (!was || before.st_mtim.tv_sec != after.st_mtim.tv_sec ||
                      before.st_mtim.tv_nsec != after.st_mtim.tv_nsec);
    if (refused)
        tap_ok(!ran, "%s: refused (%s)", name, e.text);
    else
        tap_ok(!ran, "%s: read without running anything, %d tensors, %d opaque values", name, count,
               opaque);
    free(path);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int main(int argc, char **argv)
{
    const char *golden = argc > 1 ? argv[1] : "tests/golden/data";
    char *folder = path_join(golden, "checkpoints");
    char *expected_path = path_join(folder, "expected.safetensors");
    struct dirent **entries;
    struct weights *expected = NULL;
    struct error e;
    struct weights *cloob = NULL;
    char *cloob_path = path_join(golden, "cloob_tiny.safetensors");
    int count = scandir(folder, &entries, NULL, by_name);
    if (count < 0) {
        tap_skip("no such folder", "checkpoints/");
        return tap_done();
    }
    if (file_exists(expected_path) && weights_open(&expected, expected_path, &e) != 0)
        tap_ok(false, "expected.safetensors: %s", e.text);
    if (file_exists(cloob_path) && weights_open(&cloob, cloob_path, &e) != 0)
        tap_ok(false, "cloob_tiny.safetensors: %s", e.text);
    int seen = 0;
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        bool hostile = strncmp(name, "hostile.", 8) == 0, haiku = has_suffix(name, ".pkl");
        bool torch =
            has_suffix(name, ".ckpt") || has_suffix(name, ".pth") || has_suffix(name, ".zip");
        seen += hostile || haiku || torch;
        if (hostile)
            check_hostile(folder, name);
        else if (haiku && cloob && weights_metadata(cloob, "seed"))
            check_haiku(folder, name, cloob);
        else if (haiku)
            tap_skip("no cloob_tiny.safetensors with a seed", "%s", name);
        else if (torch && expected)
            check_torch(folder, name, expected);
        else if (torch)
            tap_skip("no expected.safetensors", "%s", name);
        free(entries[i]);
    }
    if (seen == 0)
        tap_skip("no files", "checkpoints/");
    free(entries);
    weights_close(expected);
    weights_close(cloob);
    free(cloob_path);
    free(expected_path);
    free(folder);
    return tap_done();
}
