/* Thumbnails, the signatures made of them, and duplicates among images against plain loops. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/threads.h"
#include "common/images/thumbnail.h"
#include "common/score/duplicates.h"
#include "common/score/embeddings.h"
#include "common/score/signature.h"
#include "formats/shards/shard_internal.h"
#include "tests/support/shards.h"
#include "tests/support/subject.h"
#include "tests/support/tap.h"

enum { SIDE = SHARD_THUMBNAIL_SIDE, BYTES = SHARD_THUMBNAIL_BYTES, WIDTH = SIGNATURE_WIDTH };

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

static void mirror_thumbnail(uint8_t *out, const uint8_t *in)
{
    for (int i = 0; i < BYTES; i++)
        out[i] = in[i / SIDE * SIDE + SIDE - 1 - i % SIDE];
}

static void test_thumbnail(int height, int width)
{
    size_t n = 3 * (size_t)height * (size_t)width;
    float *image = xmalloc(n * sizeof *image), *mirrored = xmalloc(n * sizeof *image);
    uint8_t thumbnail[BYTES], other[BYTES], expected[BYTES];
    uint32_t state = 1;
    double sum = 0, sum_of_cells = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = next(&state) % 256;
        image[i] = (float)v / 127.5f - 1;
        mirrored[i / (size_t)width * (size_t)width + (size_t)width - 1 - i % (size_t)width] =
            image[i];
        sum += v;
    }
    thumbnail_make(thumbnail, image, height, width);
    thumbnail_make(other, mirrored, height, width);
    mirror_thumbnail(expected, thumbnail);
    tap_ok(memcmp(other, expected, BYTES) == 0,
           "%dx%d: the thumbnail of a mirrored image is the mirrored one", width, height);
    for (int i = 0; i < BYTES; i++)
        sum_of_cells += thumbnail[i];
    tap_ok(fabs(sum / (double)n - sum_of_cells / BYTES) < 0.5,
           "%dx%d: the mean color of the cells is that of the image", width, height);
    free(image);
    free(mirrored);
}

static void test_cells(void)
{
    float image[3 * SIDE * SIDE];
    uint8_t thumbnail[BYTES];
    bool same = true;
    for (int i = 0; i < BYTES; i++)
        image[i] = (float)(i + 20) / 127.5f - 1;
    thumbnail_make(thumbnail, image, SIDE, SIDE);
    for (int i = 0; i < BYTES; i++)
        same &= thumbnail[i] == i + 20;
    tap_ok(same, "the thumbnail of 8x8 pixels is they");
}

static double levels_between(const uint8_t *a, const uint8_t *b)
{
    float x[WIDTH], y[WIDTH];
    signature_make(x, a);
    signature_make(y, b);
    return signature_levels(embeddings_distance2(x, y, WIDTH) / 2);
}

static void test_signature(void)
{
    uint8_t a[BYTES], b[BYTES], mirrored[BYTES];
    float x[WIDTH], y[WIDTH];
    int columns[WIDTH];
    uint32_t state = 2;
    bool same = true, within = true;
    signature_mirror(columns);
    for (int k = 0; k < 300; k++) {
        for (int i = 0; i < BYTES; i++)
            a[i] = k < 8 ? (uint8_t)(k >> i / (SIDE * SIDE) & 1 ? 255 : 0) : (uint8_t)next(&state);
        signature_make(x, a);
        within &= embeddings_cosine(x, x, WIDTH) <= 1;
        mirror_thumbnail(mirrored, a);
        signature_make(y, mirrored);
        for (int i = 0; i < WIDTH; i++)
            same &= fabsf(y[i] - x[columns[i]]) < 1e-7f;
    }
    tap_ok(within, "no signature is longer than 1");
    tap_ok(same, "the mirrored signature is that of the mirrored image");
    memset(a, 100, BYTES);
    memset(b, 103, BYTES);
    tap_ok(fabs(levels_between(a, b) - 3) < 1e-4, "3 levels of gray are a distance of %g",
           levels_between(a, b));
    memcpy(b, a, BYTES);
    for (int i = 0; i < SIDE * SIDE; i += 4)
        b[i] = b[SIDE * SIDE + i] = b[2 * SIDE * SIDE + i] = 108;
    tap_ok(fabs(levels_between(a, b) - 4) < 1e-4, "8 levels in a quarter of the cells: %g",
           levels_between(a, b));
    memcpy(b, a, BYTES);
    memset(b + 2 * SIDE * SIDE, 140, SIDE * SIDE);
    double luma = 0.114 * 40, cb = 0.5 * 40 * 0.4, cr = 0.081312 * 40 * 0.4;
    double expected = sqrt(luma * luma + cb * cb + cr * cr);
    tap_ok(fabs(levels_between(a, b) - expected) < 1e-4, "chroma counts 0.4: %g",
           levels_between(a, b));
    tap_ok(fabs(signature_levels(signature_distance(1.3)) - 1.3) < 1e-12, "levels and back");
}

/* A scene of few, each a little different, and every other mirrored. */
static void draw(uint8_t *thumbnail, int k)
{
    uint8_t plain[BYTES];
    uint32_t scene = (uint32_t)k % 100 + 7, state = (uint32_t)k;
    for (int i = 0; i < BYTES; i++)
        plain[i] = (uint8_t)(next(&scene) % 250 + next(&state) % 4);
    memcpy(thumbnail, plain, BYTES);
    if (k / 100 % 2)
        mirror_thumbnail(thumbnail, plain);
}

/* Record k of a store has thumbnail k, unless k is `bare` or more. */
static void write_store(const char *name, int count, int bare)
{
    enum { BATCH = 100 };
    struct shards_sample samples[BATCH];
    struct shard_item items[BATCH];
    static uint8_t thumbnails[BATCH][BYTES];
    struct error e;
    struct shard_writer *w = shards_open(name, 1000, 0);
    CHECK(w);
    for (int first = 0; first < count; first += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            shards_sample(&samples[i], first + i, 0);
            items[i] = shards_item(&samples[i], first + i, 0);
            draw(thumbnails[i], first + i);
            items[i].thumbnail = first + i < bare ? thumbnails[i] : NULL;
        }
        CHECK(shard_writer_put(w, items, BATCH, &e) == 0);
    }
    CHECK(shard_writer_finish(w, &e) == 0);
    shard_writer_close(w);
}

/* A thumbnail is read as it was written, and one of another shape is refused. */
static void test_record(void)
{
    struct shards_sample sample;
    struct shard_record r;
    struct error e = {""};
    uint16_t moments[2 * SHARDS_LATENT];
    uint8_t thumbnail[BYTES], *data;
    size_t size;
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    shards_sample(&sample, 1, 0);
    draw(thumbnail, 1);
    struct shard_item item = shards_item(&sample, 1, 0);
    item.thumbnail = thumbnail;
    CHECK(shard_value_make(&data, &size, moments, zstd, &item, &shards_info, &e) == 0);
    MDB_val value = {.mv_size = size, .mv_data = data};
    shard_record_init(&r);
    CHECK(shard_value_read(&r, &value, &shards_info, &e) == 0);
    tap_ok(memcmp(r.thumbnail, thumbnail, BYTES) == 0, "a record keeps its thumbnail");
    uint8_t *shape = memmem(r.blob, r.blob_size, "[3,8,8]", 7);
    CHECK(shape);
    memcpy(shape, "[8,3,8]", 7);
    size_t bound = ZSTD_compressBound(r.blob_size);
    data = xrealloc(data, bound);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    value = (MDB_val){ZSTD_compress2(zstd, data, bound, r.blob, r.blob_size), data};
    tap_ok(shard_value_read(&r, &value, &shards_info, &e) != 0 && strstr(e.text, "'thumbnail'"),
           "another shape: %s", e.text);
    shard_record_release(&r);
    ZSTD_freeCCtx(zstd);
    free(data);
}

static void open_store(struct embed_stores *s, const char *name)
{
    struct error e;
    const char *folder = shards_folder(name);
    if (embed_stores_open(s, EMBED_CACHE_THUMBNAILS, &folder, 1, &e) != 0)
        die("%s", e.text);
}

/* As duplicates.h says; nearest: [count]. */
static int64_t repeat_plainly(struct duplicate *nearest, float (*rows)[WIDTH], int count,
                              double limit, const int *mirror)
{
    int64_t found = 0;
    for (int i = 0; i < count; i++) {
        nearest[i] = (struct duplicate){i, i, INFINITY, false};
        for (int j = 0; j < i; j++)
            for (int m = 0; m < (mirror ? 2 : 1) && nearest[j].first == j; m++) {
                float other[WIDTH];
                for (int c = 0; c < WIDTH; c++)
                    other[c] = rows[j][m ? mirror[c] : c];
                double distance = embeddings_distance2(rows[i], other, WIDTH) / 2;
                if (distance <= limit && distance < nearest[i].distance)
                    nearest[i] = (struct duplicate){j, i, distance, m};
            }
        found += nearest[i].first != i;
    }
    return found;
}

static void test_duplicates(struct tape *t, bool mirrored)
{
    enum { MANY = 2500 };
    static float rows[MANY][WIDTH];
    static struct duplicate nearest[MANY];
    static const char *const name = "drawn";
    int count = subject_small() ? 300 : MANY;
    int mirror[WIDTH];
    struct embed_stores s;
    struct duplicates d;
    uint8_t thumbnail[BYTES];
    if (!folder_exists(shards_folder(name)))
        write_store(name, count, count);
    for (int k = 0; k < count; k++) {
        draw(thumbnail, k);
        signature_make(rows[k], thumbnail);
    }
    signature_mirror(mirror);
    const int *used = mirrored ? mirror : NULL;
    double limit = signature_distance(1.1);
    int64_t expected = repeat_plainly(nearest, rows, count, limit, used);
    open_store(&s, name);
    duplicates_find(&d, &s, t, limit, used);
    bool same = d.count == expected && expected > count / 8 && expected < count;
    for (int64_t i = 0; i < d.count; i++) {
        const struct duplicate *x = &d.items[i], *n = &nearest[x->at];
        same &= x->first == n->first && x->mirrored == n->mirrored &&
                fabs(x->distance - n->distance) < 1e-12;
    }
    tap_ok(same, "%s, %s: %d duplicates, as plain loops find", subject_name(t->device),
           mirrored ? "mirrored, too" : "not mirrored", (int)expected);
    duplicates_release(&d);
    embed_stores_close(&s);
}

static void test_cache(void)
{
    struct embed_stores s;
    struct embed_cache c;
    struct error e;
    open_store(&s, "drawn");
    char *path = path_join(s.folders.items[0], THUMBNAIL_CACHE_NAME);
    bool current = embed_cache_open(&c, s.folders.items[0], s.stores[0], &s.rows, &e) == 0;
    tap_ok(current && file_exists(path), "signatures are cached");
    embed_cache_close(&c);
    embed_caches_remove(s.folders.items[0]);
    tap_ok(!file_exists(path), "and deleted with the other caches");
    free(path);
    embed_stores_close(&s);
}

static void test_bare(struct tape *t)
{
    struct embed_stores s;
    struct duplicates d;
    write_store("older", 1000, 900);
    open_store(&s, "older");
    duplicates_find(&d, &s, t, signature_distance(1.1), NULL);
    bool left_out = true;
    for (int64_t i = 0; i < d.count; i++)
        left_out &= d.items[i].at < 900;
    char *path = path_join(s.folders.items[0], THUMBNAIL_CACHE_NAME);
    tap_ok(s.damaged == 100 && d.count > 0 && left_out && !file_exists(path),
           "records without thumbnails are counted, left out and not cached");
    free(path);
    duplicates_release(&d);
    embed_stores_close(&s);
}

static void test_on(const char *spec)
{
    struct device *device = subject_open(spec);
    struct tape t;
    tape_init(&t, device);
    test_duplicates(&t, false);
    test_duplicates(&t, true);
    test_cache();
    test_bare(&t);
    tape_release(&t);
    device_close(device);
}

int main(void)
{
    message_set_verbosity(VERBOSITY_QUIET);
    threads_init(3);
    test_thumbnail(64, 64);
    test_thumbnail(36, 68);
    test_thumbnail(4, 5);
    test_cells();
    test_signature();
    test_record();
    for (const char *const *device = subject_devices(); *device; device++)
        test_on(*device);
    return tap_done();
}
