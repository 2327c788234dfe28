#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "tests/fuzz/corpus/corpus.h"
#include "tests/support/shards.h"

static void write_with_tag(const char *name, char tag, const void *data, size_t size)
{
    char *tagged = xmalloc(size + 1);
    tagged[0] = tag;
    memcpy(tagged + 1, data, size);
    corpus_write("record", name, tagged, size + 1);
    free(tagged);
}

static void write_record(const char *value_name, const char *blob_name, const char *path)
{
    struct shards_sample sample;
    struct error e;
    uint16_t moments[2 * SHARDS_LATENT];
    uint8_t *data;
    size_t size;
    shards_sample(&sample, 1, 0);
    struct shard_item item = shards_item(&sample, 1, 0);
    static const uint8_t thumbnail[SHARD_THUMBNAIL_BYTES] = {1, 2, 3};
    item.path = path;
    item.thumbnail = thumbnail;
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    CHECK(shard_value_make(&data, &size, moments, zstd, &item, &shards_info, &e) == 0);
    write_with_tag(value_name, '1', data, size);
    struct shard_record r;
    shard_record_init(&r);
    MDB_val value = {.mv_size = size, .mv_data = data};
    CHECK(shard_value_read(&r, &value, &shards_info, &e) == 0);
    write_with_tag(blob_name, '0', r.blob, r.blob_size);
    shard_record_release(&r);
    ZSTD_freeCCtx(zstd);
    free(data);
}

static void write_meta(void)
{
    struct error e;
    struct shard s;
    MDB_txn *txn;
    MDB_val key = {.mv_size = 5, .mv_data = (void *)(uintptr_t) "store"}, value;
    CHECK(shards_write("meta", 2, 2, 0, 0));
    if (shard_open(&s, shards_folder("meta"), 0, SHARD_READ, &e) != 0)
        die("cannot open the store: %s", e.text);
    CHECK(shard_txn_begin(&s, false, &txn) == 0 && mdb_get(txn, s.meta, &key, &value) == 0);
    corpus_write("meta", "meta.json", value.mv_data, value.mv_size);
    mdb_txn_abort(txn);
    shard_close(&s);
}

static void copy_shard(const char *store, const char *name)
{
    char *file = path_join(shards_folder(store), "00000.mdb");
    uint8_t *data;
    size_t size;
    struct error e;
    if (file_read(&data, &size, file, 1 << 20, &e) != 0)
        die("cannot read '%s': %s", file, e.text);
    corpus_write("pages", name, data, size);
    free(data);
    free(file);
}

/* Records so small that they are within pages, and so many that trees have branches. */
static void write_small_records(const char *store, int n)
{
    struct shard_info info = shards_info;
    info.latent_channels = info.latent_height = info.latent_width = 1;
    info.embed_size = 2;
    struct shard_writer *w;
    struct shard_writer_options o = {0};
    struct error e;
    if (shard_writer_open(&w, shards_folder(store), &info, &o, &e) != 0)
        die("cannot make a store: %s", e.text);
    for (int i = 0; i < n; i++) {
        char path[32];
        snprintf(path, sizeof path, "photos/%d.jpg", i);
        struct shard_item item = {.path = path,
                                  .size = 1,
                                  .width = 1,
                                  .height = 1,
                                  .moments = (float[]){0, 0},
                                  .embed = (float[]){1, 0}};
        CHECK(shard_writer_put(w, &item, 1, &e) == 0);
    }
    CHECK(shard_writer_finish(w, &e) == 0);
    shard_writer_close(w);
}

static void write_pages(void)
{
    CHECK(shards_write("large", 3, 1, 0, 0));
    copy_shard("large", "large-records");
    write_small_records("small", 120);
    copy_shard("small", "small-records");
}

void corpus_shards(void)
{
    write_record("value", "blob", "photos/1.jpg");
    write_record("value-bytes", "blob-bytes", "photos/\xff\xe4.jpg");
    write_meta();
    write_pages();
}
