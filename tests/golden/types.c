#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/weights/weights.h"
#include "tests/support/tap.h"
#include "tests/support/weight_copy.h"

/* Element types as PyTorch and numpy write them. */

static struct weights *open_file(const char *folder, const char *name)
{
    struct weights *w = NULL;
    struct error e;
    char *path = path_join(folder, name);
    if (!file_exists(path))
        tap_skip("no such file", "%s", name);
    else if (weights_open(&w, path, &e) != 0)
        tap_ok(false, "%s: %s", name, e.text);
    free(path);
    return w;
}

static bool same_shape(const struct weight *a, const struct weight *b)
{
    return a->ndim == b->ndim &&
           memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

static bool same_bytes(const struct weight *a, const struct weight *b)
{
    if (a->unreadable || a->dtype != b->dtype || !same_shape(a, b))
        return false;
    uint8_t *x = xmalloc(weight_bytes(a) + 1), *y = xmalloc(weight_bytes(a) + 1);
    weight_copy(a, x);
    weight_copy(b, y);
    bool same = memcmp(x, y, weight_bytes(a)) == 0;
    free(x);
    free(y);
    return same;
}

/* Bit by bit, but any NaN for a NaN. */
static bool same_floats(const struct weight *t, const struct weight *floats)
{
    enum { MOST = 256 };
    float got[MOST], want[MOST];
    int64_t n = weight_count(t);
    if (!weight_is_real(t) || n > MOST || weight_count(floats) != n)
        return false;
    weight_to_f32(t, got);
    weight_to_f32(floats, want);
    int wrong = 0;
    for (int64_t i = 0; i < n; i++)
        wrong += !(got[i] != got[i] && want[i] != want[i]) &&
                 memcmp(&got[i], &want[i], sizeof *got) != 0;
    return wrong == 0;
}

static void check_readable(const char *folder, const char *name, const struct weights *expected)
{
    static const char prefix[] = "float.";
    struct weights *w = open_file(folder, name);
    int wrong = 0, compared = 0, converted = 0;
    if (!w)
        return;
    for (int i = 0; i < weights_count(expected); i++) {
        const struct weight *want = weights_at(expected, i);
        bool floats = strncmp(want->name, prefix, strlen(prefix)) == 0;
        const struct weight *t = weights_find(w, want->name + (floats ? strlen(prefix) : 0));
        bool right = t && (floats ? same_floats(t, want) : same_bytes(t, want));
        if (!right)
            tap_diag("%s", want->name);
        wrong += !right;
        compared += !floats;
        converted += floats;
    }
    tap_ok(wrong == 0 && weights_count(w) == compared, "%s: %d tensors, %d as floats", name,
           compared, converted);
    weights_close(w);
}

struct kind {
    const char *name, *type;
};

/* A type of NULL: not a tensor. */
static void check_kinds(const char *folder, const char *file, const struct kind *kinds)
{
    struct weights *w = open_file(folder, file);
    int wrong = 0, count = 0, tensors = 0;
    if (!w)
        return;
    for (; kinds[count].name; count++) {
        const struct weight *t = weights_find(w, kinds[count].name);
        const char *type = t ? weight_type(t) : NULL;
        bool right = type && kinds[count].type ? strcmp(type, kinds[count].type) == 0
                                               : type == kinds[count].type;
        if (!right)
            tap_diag("%s: %s", kinds[count].name, type ? type : "not a tensor");
        wrong += !right;
        tensors += kinds[count].type != NULL;
    }
    tap_ok(wrong == 0 && weights_count(w) == tensors, "%s: %d tensors of %d values", file, tensors,
           count);
    weights_close(w);
}

static void check_unreadable(const char *folder)
{
    static const struct kind torch[] = {
        {"w", "F32"},
        {"qint8", "qint8"},
        {"quint8", "quint8"},
        {"sparse", "sparse_tensor"},
        {"csr", "sparse_tensor"},
        {"nested", "nested_tensor"},
        {"meta", "meta_tensor_no_storage"},
        {"conj", "conj or neg view"},
        {"neg", "conj or neg view"},
        {"complex128", "complex128"},
        {"complex32", "complex32"},
        {"float4", "float4_e2m1fn_x2"},
        {"storage", "storage"},
        {"module", "Linear"},
        {"?14", "tensor without a name"},
        {"list.0", "complex128"},
        {"size", NULL},
        {"dtype", NULL},
        {"step", NULL},
        {"none", NULL},
        {NULL, NULL},
    };
    static const struct kind numpy[] = {
        {"complex64", "C64"},  {"uint16", "U16"}, {"uint32", "U32"},
        {"uint64", "U64"},     {"big", "C64"},    {"complex128", "c16"},
        {"longdouble", "f16"}, {"void", "V2"},    {"date", "M8"},
        {"text", NULL},        {"objects", NULL}, {"objects with an array", "array of objects"},
        {"random", NULL},      {NULL, NULL},
    };
    struct kind legacy[sizeof torch / sizeof *torch];
    memcpy(legacy, torch, sizeof torch);
    for (struct kind *k = legacy; k->name; k++)
        if (strcmp(k->name, "module") == 0)
            k->type = "object"; /* its class has its source beside it */
    check_kinds(folder, "unreadable.pt", torch);
    check_kinds(folder, "unreadable-legacy.pt", legacy);
    check_kinds(folder, "numpy0.pkl", numpy);
    check_kinds(folder, "numpy2.pkl", numpy);
    check_kinds(folder, "numpy5.pkl", numpy);
}

/* numpy's arrays have the numbers of PyTorch's. */
static void check_numpy(const char *folder, const char *file, const struct weights *expected)
{
    static const char *const names[][2] = {{"complex64", "complex64"},
                                           {"uint16", "uint16"},
                                           {"uint32", "uint32"},
                                           {"uint64", "uint64"},
                                           {"big", "complex64"}};
    struct weights *w = open_file(folder, file);
    int wrong = 0;
    if (!w)
        return;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct weight *t = weights_find(w, names[i][0]);
        wrong += !t || !same_bytes(t, weights_find(expected, names[i][1]));
    }
    tap_ok(wrong == 0, "%s: the numbers, in both byte orders", file);
    weights_close(w);
}

int main(int argc, char **argv)
{
    char *folder = path_join(argc > 1 ? argv[1] : "tests/golden/data", "types");
    struct weights *expected = open_file(folder, "expected.safetensors");
    if (expected) {
        check_readable(folder, "torch.pt", expected);
        check_readable(folder, "legacy.pt", expected);
        check_numpy(folder, "numpy0.pkl", expected);
        check_numpy(folder, "numpy2.pkl", expected);
        check_numpy(folder, "numpy5.pkl", expected);
    }
    check_unreadable(folder);
    weights_close(expected);
    free(folder);
    return tap_done();
}
