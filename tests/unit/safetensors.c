#include "formats/weights/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/progress.h"
#include "tests/support/tap.h"

/* A file with this header and `data` zero bytes; malloc'ed, so that ASan detects reads past it. */
static uint8_t *make(const char *json, size_t data, size_t *size)
{
    uint64_t header = strlen(json);
    *size = 8 + header + data;
    uint8_t *file = xcalloc(1, *size);
    memcpy(file, &header, 8);
    memcpy(file + 8, json, header);
    return file;
}

static bool opens(const char *json, size_t data, struct error *e)
{
    size_t size;
    uint8_t *file = make(json, data, &size);
    struct weights *w;
    bool ok = weights_open_memory(&w, file, size, e) == 0;
    if (ok)
        weights_close(w);
    free(file);
    return ok;
}

#define T8 "\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"

static void accept(void)
{
    static const struct {
        const char *what, *json;
        size_t data;
    } cases[] = {
        {"no tensors", "{}", 0},
        {"white space everywhere",
         "{ \"a\" : {\"dtype\" :\"F32\", \"shape\": [ 2 ] ,\n\"data_offsets\":[0, 8]} }   ", 8},
        {"unknown keys", "{\"a\":{" T8 ",\"x\":{\"y\":[1,-2.5e3,null,\"}\"]},\"z\":true}}", 8},
        {"empty tensors",
         "{\"a\":{\"dtype\":\"F16\",\"shape\":[0,1048576],"
         "\"data_offsets\":[0,0]},\"b\":{" T8 "}}",
         8},
        {"a scalar", "{\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8},
        {"tensors in a different order than their data",
         "{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]},\"a\":{" T8 "}}", 11},
    };
    struct error e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        e.text[0] = 0;
        tap_ok(opens(cases[i].json, cases[i].data, &e), "read: %s %s", cases[i].what, e.text);
    }
}

static void refuse(void)
{
    static const struct {
        const char *what, *json;
        size_t data;
        const char *reason;
    } cases[] = {
        {"overlap", "{\"a\":{" T8 "},\"b\":{" T8 "}}", 8, "overlap"},
        {"partial overlap",
         "{\"a\":{" T8 "},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12,
         "overlap"},
        {"hole", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, "gaps"},
        {"data after the last tensor", "{\"a\":{" T8 "}}", 9, "after"},
        {"truncated data", "{\"a\":{" T8 "}}", 7, "outside"},
        {"reversed offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8,
         "outside"},
        {"offset past 2^63",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,18446744073709551624]}}", 8,
         "out of range"},
        {"negative size", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
         "whole number"},
        {"fractional size", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8,
         "expected"},
        {"size does not match the shape",
         "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
         "does not match the shape"},
        {"product of the shape wraps around to the size",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,8]}}",
         8, "does not match the shape"},
        {"size in bytes wraps around",
         "{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693953],\"data_offsets\":[0,8]}}", 8,
         "does not match the shape"},
        {"duplicate name",
         "{\"a\":{" T8 "},\"a\":{\"dtype\":\"U8\",\"shape\":[1],"
         "\"data_offsets\":[8,9]}}",
         9, "two tensors"},
        {"duplicate key", "{\"a\":{" T8 ",\"shape\":[2]}}", 8, "duplicate"},
        {"duplicate metadata", "{\"__metadata__\":{},\"__metadata__\":{},\"a\":{" T8 "}}", 8,
         "duplicate"},
        {"too many elements of an unknown type",
         "{\"a\":{\"dtype\":\"F4\",\"shape\":[9223372036854775807,3],\"data_offsets\":[0,8]}}", 8,
         "does not match the shape"},
        {"an unknown type outside the file",
         "{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,9]}}", 8, "outside"},
        {"an unknown type that overlaps",
         "{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{" T8 "}}", 8,
         "overlap"},
        {"a size of eight-bit floats",
         "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[7],\"data_offsets\":[0,8]}}", 8,
         "does not match the shape"},
        {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "lacks"},
        {"one offset", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8]}}", 8,
         "two data"},
        {"three offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8,
         "too many"},
        {"nine dimensions",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         "too many"},
        {"metadata that is not text", "{\"__metadata__\":{\"a\":1}}", 0, "expected"},
        {"zero in a name", "{\"a\\u0000b\":{" T8 "}}", 8, "zero"},
        {"raw control character", "{\"a\nb\":{" T8 "}}", 8, "control"},
        {"half a surrogate", "{\"\\ud800x\":{" T8 "}}", 8, "surrogate"},
        {"unknown escape", "{\"\\x41\":{" T8 "}}", 8, "escape"},
        {"trailing comma", "{\"a\":{" T8 "},}", 8, "expected"},
        {"text after the header", "{\"a\":{" T8 "}} x", 8, "after"},
        {"endless nesting", "{\"a\":{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0, "deeply"},
        {"unmatched bracket", "{\"a\":{\"x\":[1}]}}", 0, "unmatched"},
        {"no value", "{\"a\":{\"x\":,\"y\":1}}", 0, "expected"},
        {"an array at the top", "[]", 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error e = {""};
        bool opened = opens(cases[i].json, cases[i].data, &e);
        tap_ok(!opened && strstr(e.text, cases[i].reason), "refuse: %s (%s)", cases[i].what,
               e.text);
    }
}

static void header_sizes(void)
{
    uint64_t sizes[] = {3, 100, 1u << 30, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    int refused = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size;
        uint8_t *file = make("{}", 0, &size);
        memcpy(file, &sizes[i], 8);
        struct weights *w;
        struct error e;
        if (weights_open_memory(&w, file, size, &e) != 0)
            refused++;
        else
            weights_close(w);
        free(file);
    }
    tap_ok(refused == 6, "headers longer than the file are refused");
}

static uint8_t *example(size_t *size)
{
    struct safetensors_writer *s = safetensors_create_memory();
    struct error e;
    uint8_t *blob = NULL;
    safetensors_metadata(s, "path", "a \"quoted\" \\ name\n\xc3\xa9");
    safetensors_metadata(s, "seed", "1");
    safetensors_declare(s, "b/\x01\xf0\x9f\x98\x80", DTYPE_F32, 2, (int64_t[]){2, 3});
    safetensors_declare(s, "a", DTYPE_BOOL, 1, (int64_t[]){3});
    safetensors_declare(s, "scalar", DTYPE_F16, 0, NULL);
    safetensors_declare(s, "empty", DTYPE_I64, 2, (int64_t[]){0, 7});
    const float b[] = {1, 2, 3, 4, 5, 6};
    bool ok = safetensors_append(s, b, 5, &e) == 0 &&
              safetensors_append(s, (const uint8_t *)b + 5, sizeof b - 5, &e) == 0 &&
              safetensors_append(s, "\1\0\1\0\x3c", 5, &e) == 0;
    ok = safetensors_take(s, &blob, size, &e) == 0 && ok;
    CHECK(ok);
    return blob;
}

static void round_trip(void)
{
    size_t size;
    uint8_t *blob = example(&size);
    struct weights *w;
    struct error e = {""};
    if (!tap_ok(weights_open_memory(&w, blob, size, &e) == 0, "what is written can be read %s",
                e.text))
        return;
    float values[6], one;
    const struct weight *b = weights_find(w, "b/\x01\xf0\x9f\x98\x80"), *a = weights_find(w, "a"),
                        *s = weights_find(w, "scalar"), *z = weights_find(w, "empty");
    tap_ok(weights_count(w) == 4 && a && b && s && z && !weights_find(w, "c"), "names");
    weight_to_f32(b, values);
    weight_to_f32(s, &one);
    tap_ok(values[0] == 1 && values[5] == 6 && one == 1 && b->contiguous && b->ndim == 2 &&
               b->shape[1] == 3 && b->stride[0] == 3 && s->ndim == 0,
           "values, shapes and strides");
    tap_ok((uintptr_t)b->data == (uintptr_t)blob + (size_t)((const uint8_t *)b->data - blob) &&
               ((const uint8_t *)b->data - blob) % 64 == 0,
           "data start at a multiple of 64, in place");
    const char *path = weights_metadata(w, "path");
    tap_ok(path && strcmp(path, "a \"quoted\" \\ name\n\xc3\xa9") == 0 &&
               weights_metadata_count(w) == 2 && !weights_metadata(w, "nothing"),
           "metadata");
    weights_close(w);

    size_t opened = 0;
    for (size_t n = 0; n < size; n++) {
        uint8_t *part = xmalloc(n + 1);
        memcpy(part, blob, n);
        if (weights_open_memory(&w, part, n, &e) == 0) {
            opened++;
            weights_close(w);
        }
        free(part);
    }
    tap_ok(opened == 0, "every truncation of %zu bytes is refused", size);
    free(blob);
}

/* A tensor of a type that has no dtype is known by name, and the others can be read. */
static void unknown_type(void)
{
    static const char json[] =
        "{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[8,2],\"data_offsets\":[0,12]},\"b\":{\"dtype\":"
        "\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}";
    size_t size;
    uint8_t *file = make(json, 20, &size);
    struct weights *w;
    struct error e = {""};
    float one[2] = {1, 1};
    bool ok = weights_open_memory(&w, file, size, &e) == 0;
    const struct weight *a = ok ? weights_find(w, "a") : NULL,
                        *b = ok ? weights_find(w, "b") : NULL;
    if (b)
        weight_to_f32(b, one);
    tap_ok(a && b && !weight_is_real(a) && weight_is_real(b) && !a->contiguous &&
               a->shape[1] == 2 && strcmp(weight_type(a), "F6_E2M3") == 0 && one[0] == 0 &&
               one[1] == 0,
           "an unknown element type %s", e.text);
    if (ok)
        weights_close(w);
    free(file);
}

/* Tensors of every type, with the bytes 0, 1, 2 and so on. */
static void every_type(void)
{
    struct safetensors_writer *s = safetensors_create_memory();
    struct weights *w;
    struct error e = {""};
    uint8_t bytes[DTYPE_COUNT * 16], *blob;
    size_t size, total = 0;
    int wrong = 0;
    for (int d = 0; d < DTYPE_COUNT; d++) {
        safetensors_declare(s, dtype_name((enum dtype)d), (enum dtype)d, 1, (int64_t[]){2});
        total += 2 * dtype_size((enum dtype)d);
    }
    for (size_t i = 0; i < total; i++)
        bytes[i] = (uint8_t)i;
    CHECK(safetensors_append(s, bytes, total, &e) == 0 &&
          safetensors_take(s, &blob, &size, &e) == 0);
    bool ok = weights_open_memory(&w, blob, size, &e) == 0;
    const uint8_t *at = bytes;
    for (int d = 0; d < DTYPE_COUNT && ok; d++) {
        const struct weight *t = weights_find(w, dtype_name((enum dtype)d));
        wrong += !t || t->dtype != (enum dtype)d || t->unreadable ||
                 weight_is_real(t) == (d == DTYPE_C64) || memcmp(t->data, at, weight_bytes(t)) != 0;
        at += 2 * dtype_size((enum dtype)d);
    }
    tap_ok(ok && wrong == 0, "%d element types %s", (int)DTYPE_COUNT, e.text);
    if (ok)
        weights_close(w);
    free(blob);
}

static void misuse(void)
{
    struct error e;
    uint8_t *blob;
    size_t size;
    struct safetensors_writer *s = safetensors_create_memory();
    safetensors_declare(s, "a", DTYPE_U8, 1, (int64_t[]){2});
    tap_ok(safetensors_append(s, "123", 3, &e) == -1, "more data than declared: %s", e.text);
    tap_ok(safetensors_take(s, &blob, &size, &e) == -1, "less data than declared: %s", e.text);
    s = safetensors_create_memory();
    safetensors_declare(s, "a", DTYPE_U8, 1, (int64_t[]){1});
    safetensors_declare(s, "a", DTYPE_U8, 1, (int64_t[]){1});
    tap_ok(safetensors_append(s, "1", 1, &e) == -1, "duplicate name: %s", e.text);
    safetensors_abandon(s);
}

static void files(void)
{
    char *path = path_join(test_folder(), "x.safetensors");
    struct safetensors_writer *s;
    struct weights *w;
    struct error e = {""};
    bool ok = safetensors_create(&s, path, &e) == 0;
    if (ok) {
        safetensors_declare(s, "a", DTYPE_U8, 1, (int64_t[]){4});
        ok = safetensors_append(s, "1234", 4, &e) == 0 && !file_exists(path);
        ok = safetensors_commit(s, &e) == 0 && ok;
    }
    tap_ok(ok && file_exists(path), "a file appears when it is complete %s", e.text);
    ok = weights_open(&w, path, &e) == 0;
    tap_ok(ok && weights_find(w, "a") && memcmp(weights_find(w, "a")->data, "1234", 4) == 0,
           "and has the data that was written");
    if (ok)
        weights_close(w);
    char *other = path_join(test_folder(), "y.safetensors");
    ok = safetensors_create(&s, other, &e) == 0;
    if (ok) {
        safetensors_declare(s, "a", DTYPE_U8, 1, (int64_t[]){4});
        ok = safetensors_append(s, "12", 2, &e) == 0;
        ok = safetensors_commit(s, &e) == -1 && ok;
    }
    tap_ok(ok && !file_exists(other), "an incomplete file does not appear");
    tap_ok(weights_open(&w, other, &e) == -1 && weights_open(&w, test_folder(), &e) == -1,
           "a missing file and a folder are errors: %s", e.text);
    free(path);
    free(other);
}

/* Element i of a strided tensor, as defined in weights.h. */
static float element(const struct weight *t, int64_t i)
{
    int64_t at = 0;
    for (int d = t->ndim - 1; d >= 0; d--) {
        at += i % t->shape[d] * t->stride[d];
        i /= t->shape[d];
    }
    float f;
    memcpy(&f, (const uint8_t *)t->data + at * 4, 4);
    return f;
}

static void strides(void)
{
    enum { N = 70000 };
    uint8_t *memory = xmalloc(N * 4 + 1);
    float *out = xmalloc(N * sizeof *out);
    for (int i = 0; i < N; i++)
        memcpy(memory + 1 + 4 * i, &(float){(float)i}, 4);
    const struct weight cases[] = {
        {"transposed", DTYPE_F32, 2, {300, 200}, {1, 300}, false, memory + 1, NULL},
        {"part of a matrix", DTYPE_F32, 2, {20, 30}, {200, 2}, false, memory + 1, NULL},
        {"permuted", DTYPE_F32, 4, {5, 4, 3, 7}, {1, 5, 20, 60}, false, memory + 1, NULL},
        {"repeated", DTYPE_F32, 3, {6, 5, 4}, {0, 4, 1}, false, memory + 1, NULL},
        {"misaligned", DTYPE_F32, 2, {100, 700}, {700, 1}, false, memory + 1, NULL},
        {"empty", DTYPE_F32, 2, {0, 3}, {3, 1}, false, memory + 1, NULL},
        {"scalar", DTYPE_F32, 0, {0}, {0}, false, memory + 1, NULL},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct weight t = cases[c];
        int64_t wrong = 0, n = weight_count(&t);
        weight_update_contiguous(&t);
        weight_to_f32(&t, out);
        for (int64_t i = 0; i < n; i++)
            wrong += !(out[i] == element(&t, i));
        tap_ok(wrong == 0 && !t.contiguous, "%s: %" PRId64 " elements", t.name, n);
    }
    free(memory);
    free(out);
}

static void speed(void)
{
    struct safetensors_writer *s = safetensors_create_memory();
    struct error e;
    uint8_t *blob;
    size_t size;
    char name[80];
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "net.4.main.9.main.9.main.%d.main.0.weight", i);
        safetensors_declare(s, name, DTYPE_U8, 4, (int64_t[]){1, 2, 3, 4});
    }
    uint8_t *data = xcalloc(2000, 24);
    bool ok = safetensors_append(s, data, 2000 * 24, &e) == 0;
    ok = safetensors_take(s, &blob, &size, &e) == 0 && ok;
    struct weights *w;
    double start = seconds_now();
    ok = ok && weights_open_memory(&w, blob, size, &e) == 0;
    double seconds = seconds_now() - start;
    tap_ok(ok && weights_count(w) == 2000 && seconds < 0.5, "2000 tensors in %.1f ms",
           1e3 * seconds);
    if (ok)
        weights_close(w);
    free(blob);
    free(data);
}

int main(void)
{
    accept();
    refuse();
    header_sizes();
    round_trip();
    unknown_type();
    every_type();
    misuse();
    files();
    strides();
    speed();
    return tap_done();
}
