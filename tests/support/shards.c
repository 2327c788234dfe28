#include "tests/support/shards.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "tests/support/synth.h"
#include "tests/support/tap.h"

const struct shard_info shards_info = {
    .latent_channels = SHARDS_Z,
    .latent_height = SHARDS_SIDE,
    .latent_width = SHARDS_SIDE,
    .embed_size = SHARDS_EMBED,
    .embed_dtype = DTYPE_F32,
    .image_height = 8 * SHARDS_SIDE,
    .image_width = 8 * SHARDS_SIDE,
    .preprocessing = "display",
    .autoencoder = {.name = "autoencoder.ckpt", .hash = "0123456789abcdef0123456789abcdef"},
    .cloob = {.name = "cloob.pkl", .hash = "fedcba9876543210fedcba9876543210"},
};

void shards_sample(struct shards_sample *s, int k, int generation)
{
    char name[64], image[64];
    snprintf(s->path, sizeof s->path, "photos/%d.jpg", k);
    snprintf(name, sizeof name, "moments.%d.%d", k, generation);
    synth_uniform(s->moments, 2 * SHARDS_LATENT, name, 1);
    int size = snprintf(image, sizeof image, "image %d %d", k, generation);
    content_hash(s->hash, image, (size_t)size);
    for (int i = 0; i < SHARDS_LATENT; i++) {
        s->moments[i] = 8 * s->moments[i] + (float)generation;
        s->moments[SHARDS_LATENT + i] =
            40 * s->moments[SHARDS_LATENT + i]; /* some exceed the clamp */
    }
    synth_uniform(s->embed, SHARDS_EMBED, name, 2);
    double square = 0;
    for (int i = 0; i < SHARDS_EMBED; i++)
        square += s->embed[i] * s->embed[i];
    for (int i = 0; i < SHARDS_EMBED; i++)
        s->embed[i] /= (float)sqrt(square);
}

struct shard_item shards_item(const struct shards_sample *s, int k, int generation)
{
    return (struct shard_item){.path = s->path,
                               .size = 1000 + k,
                               .mtime_ns = 1700000000123456789 + generation,
                               .width = 100 + k,
                               .height = 200 + k,
                               .hash = s->hash,
                               .moments = s->moments,
                               .embed = s->embed};
}

int shards_put(struct shard_writer *w, int first, int n, int generation, struct error *e)
{
    struct shards_sample *samples = xcalloc((size_t)n, sizeof *samples);
    struct shard_item *items = xcalloc((size_t)n, sizeof *items);
    for (int i = 0; i < n; i++) {
        shards_sample(&samples[i], first + i, generation);
        items[i] = shards_item(&samples[i], first + i, generation);
    }
    int status = shard_writer_put(w, items, n, e);
    free(samples);
    free(items);
    return status;
}

const char *shards_folder(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

struct shard_writer *shards_open(const char *name, int64_t shard_size, size_t map_size)
{
    struct shard_writer *w;
    struct error e;
    struct shard_writer_options o = {.shard_size = shard_size, .map_size = map_size};
    if (shard_writer_open(&w, shards_folder(name), &shards_info, &o, &e) != 0) {
        tap_diag("%s", e.text);
        return NULL;
    }
    return w;
}

bool shards_write(const char *name, int n, int batch, int64_t shard_size, size_t map_size)
{
    struct error e;
    struct shard_writer *w = shards_open(name, shard_size, map_size);
    int status = w ? 0 : -1;
    for (int i = 0; status == 0 && i < n; i += batch)
        status = shards_put(w, i, n - i < batch ? n - i : batch, 0, &e);
    if (status == 0)
        status = shard_writer_finish(w, &e);
    shard_writer_close(w);
    if (status != 0 && w)
        tap_diag("%s", e.text);
    return status == 0;
}

/* Takes the hashes from the entries of the paths. Returns LMDB's code. */
static int remove_hashes(struct shard *s, MDB_txn *txn)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int code = mdb_cursor_open(txn, s->paths, &cursor);
    while (code == 0 && (code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint8_t old[SHARD_PATH_VALUE_SIZE], path[PATH_KEY_SIZE];
        memcpy(old, value.mv_data, sizeof old);
        memcpy(path, key.mv_data, sizeof path);
        key.mv_data = path;
        value = (MDB_val){.mv_size = sizeof old, .mv_data = old};
        code = mdb_cursor_put(cursor, &key, &value, MDB_CURRENT);
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : code;
}

void shards_make_version_1(const char *name)
{
    int first, end;
    CHECK(shard_folder_range(shards_folder(name), &first, &end, NULL) == 0);
    for (int number = first; number < end; number++) {
        struct shard s;
        MDB_txn *txn;
        CHECK(shard_open(&s, shards_folder(name), number, SHARD_WRITE, NULL) == 0);
        s.version = 1;
        CHECK(shard_txn_begin(&s, true, &txn) == 0 && remove_hashes(&s, txn) == 0 &&
              shard_put_meta(&s, txn, &s.statistics, s.finished) == 0 && mdb_txn_commit(txn) == 0);
        shard_close(&s);
    }
}

struct hash_check {
    struct shard_store *store;
    int64_t known, wrong;
};

static void check_hash(void *arg, const struct shard_path *path)
{
    struct hash_check *c = arg;
    struct shard_record r;
    struct shards_sample x;
    int k = -1;
    if (!path->hash)
        return;
    c->known++;
    shard_record_init(&r);
    if (shard_store_read(c->store, path->index, &r, NULL) == 0)
        sscanf(r.path, "photos/%d.jpg", &k);
    shards_sample(&x, k, 0);
    c->wrong += memcmp(x.hash, path->hash, sizeof x.hash) != 0;
    shard_record_release(&r);
}

int64_t shards_hashes(const char *name)
{
    struct hash_check c = {0};
    struct error e;
    if (shard_store_open(&c.store, shards_folder(name), &e) != 0)
        return -1;
    int status = shard_store_each_path(c.store, check_hash, &c, &e);
    shard_store_close(c.store);
    return status != 0 || c.wrong > 0 ? -1 : c.known;
}

bool shards_record_is(struct shard_store *s, int64_t index, int k, int generation)
{
    struct shards_sample expected;
    shards_sample(&expected, k, generation);
    struct shard_record r;
    struct error e;
    shard_record_init(&r);
    bool same = shard_store_read(s, index, &r, &e) == 0;
    if (!same) {
        tap_diag("%s", e.text);
    } else {
        uint16_t f16[2 * SHARDS_LATENT];
        dtype_from_f32(DTYPE_F16, f16, expected.moments, 2 * SHARDS_LATENT);
        same = !strcmp(r.path, expected.path) && !memcmp(r.moments, f16, sizeof f16) &&
               !memcmp(r.embed, expected.embed, sizeof expected.embed) && r.width == 100 + k &&
               r.height == 200 + k && shard_record_check_values(&r, &shards_info, &e) == 0;
    }
    shard_record_release(&r);
    return same;
}

int shards_read_all(const char *name, struct error *e)
{
    struct shard_store *s;
    struct shard_record r;
    int status = shard_store_open(&s, shards_folder(name), e);
    if (status != 0)
        return status;
    shard_record_init(&r);
    for (int64_t i = 0; i < shard_store_count(s) && i < 100000; i++)
        status |= shard_store_read(s, i, &r, e);
    shard_record_release(&r);
    shard_store_close(s);
    return status;
}

static char problems[8192];

static void note_problem(void *arg, const char *text)
{
    size_t used = strlen(problems);
    snprintf(problems + used, sizeof problems - used, "%s\n", text);
}

static int64_t verify(const char *name)
{
    int64_t records;
    problems[0] = 0;
    return shard_store_verify(shards_folder(name), note_problem, NULL, NULL, &records);
}

void shards_ok_clean(const char *name, const char *what)
{
    if (!tap_ok(verify(name) == 0, "%s: verify finds no problem", what))
        tap_diag("%s", problems);
}

void shards_ok_problem(const char *name, const char *expected, const char *what)
{
    int64_t n = verify(name);
    if (!tap_ok(n > 0 && strstr(problems, expected), "verify finds %s", what))
        tap_diag("%" PRId64 " problems: %s", n, problems);
}
