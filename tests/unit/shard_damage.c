/* Damaged stores: foreign, truncated and modified files are reported, never misread. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lmdb.h>
#include <zstd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/shard_internal.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

static const char *file_of(const char *store, const char *file)
{
    static char path[4300];
    snprintf(path, sizeof path, "%s/%s", shards_folder(store), file);
    return path;
}

static void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    fwrite(data, 1, size, f);
    fclose(f);
}

static void ok_refused(const char *store, const char *expected, const char *what)
{
    struct shard_store *s = NULL;
    struct shard_writer *w = NULL;
    struct shard_writer_options o = {0};
    struct error e = {""}, we = {""};
    int reader = shard_store_open(&s, shards_folder(store), &e);
    if (reader == 0)
        shard_store_close(s);
    int writer = shard_writer_open(&w, shards_folder(store), &shards_info, &o, &we);
    if (!tap_ok(reader && writer && strstr(e.text, expected) && strstr(we.text, expected),
                "%s: refused by reader and writer", what)) {
        tap_diag("reader %d: %s", reader, e.text);
        tap_diag("writer %d: %s", writer, we.text);
    }
    if (writer == 0)
        shard_writer_close(w);
    shards_ok_problem(store, expected, what);
}

static void test_foreign_files(void)
{
    struct error e = {""};
    struct shard_store *s;
    struct shard_writer *w;
    struct shard_writer_options o = {0};
    tap_ok(shard_store_open(&s, shards_folder("nowhere"), &e) != 0 &&
               strstr(e.text, "No such file"),
           "missing folder: %s", e.text);
    mkdir(shards_folder("foreign"), 0777);
    tap_ok(shard_store_open(&s, shards_folder("foreign"), &e) != 0 && strstr(e.text, "no shards"),
           "empty folder: %s", e.text);
    write_file(file_of("foreign", "holiday.jpg"), "x", 1);
    tap_ok(shard_store_open(&s, shards_folder("foreign"), &e) != 0 && strstr(e.text, "holiday.jpg"),
           "folder with other files: %s", e.text);
    tap_ok(shard_writer_open(&w, shards_folder("foreign"), &shards_info, &o, &e) != 0 &&
               strstr(e.text, "holiday.jpg"),
           "no new store is created there: %s", e.text);

    shards_write("garbage", 6, 3, 3, 0);
    char *garbage = xmalloc(100000);
    memset(garbage, 'g', 100000);
    write_file(file_of("garbage", "00001.mdb"), garbage, 100000);
    ok_refused("garbage", "00001.mdb: cannot open: not an LMDB file", "a shard of garbage");
    write_file(file_of("garbage", "00001.mdb"), garbage, 100);
    ok_refused("garbage", "00001.mdb: not an LMDB file (100 bytes)", "a short shard of garbage");
    write_file(file_of("garbage", "00001.mdb"), garbage, 0);
    ok_refused("garbage", "00001.mdb: not an LMDB file (0 bytes)", "an empty shard");
    unlink(file_of("garbage", "00001.mdb"));
    mkdir(file_of("garbage", "00001.mdb"), 0777);
    ok_refused("garbage", "00001.mdb: not a regular file", "a folder for a shard");
    free(garbage);

    shards_write("gap", 9, 3, 3, 0);
    unlink(file_of("gap", "00001.mdb"));
    ok_refused("gap", "'00001.mdb' is missing", "a missing shard");

    shards_write("cut", 100, 10, 0, 0);
    struct stat st;
    tap_ok(stat(file_of("cut", "00000.mdb"), &st) == 0 &&
               truncate(file_of("cut", "00000.mdb"), st.st_size / 2) == 0,
           "a shard is cut in half");
    ok_refused("cut", "00000.mdb: truncated", "half a shard");

    shards_write("leftover", 3, 3, 0, 0);
    write_file(file_of("leftover", ".00001.mdb.new"), "half", 4);
    shards_ok_clean("leftover", "a new shard left incomplete by a killed writer");
    w = shards_open("leftover", 3, 0);
    tap_ok(w && shards_put(w, 3, 3, 0, &e) == 0,
           "does not prevent the next writer from creating it: %s", e.text);
    shard_writer_close(w);
    shards_ok_clean("leftover", "after that");
    shards_write("alien", 3, 3, 0, 0);
    write_file(file_of("alien", "backup.mdb"), "x", 1);
    shards_ok_problem("alien", "'backup.mdb' is not part", "a foreign file");
}

/* Calls f with all databases in a transaction on the first shard of a store. */
static void change(const char *store,
                   void (*f)(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta))
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi samples, paths, meta;
    CHECK(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 3) == 0 &&
          mdb_env_open(env, file_of(store, "00000.mdb"), MDB_NOSUBDIR, 0666) == 0 &&
          mdb_txn_begin(env, NULL, 0, &txn) == 0);
    CHECK(mdb_dbi_open(txn, "samples", MDB_CREATE, &samples) == 0 &&
          mdb_dbi_open(txn, "paths", MDB_CREATE, &paths) == 0 &&
          mdb_dbi_open(txn, "meta", MDB_CREATE, &meta) == 0);
    f(txn, samples, paths, meta);
    CHECK(mdb_txn_commit(txn) == 0);
    mdb_env_close(env);
}

static MDB_val index_key(uint8_t bytes[8], uint64_t index)
{
    shard_put_be64(bytes, index);
    return (MDB_val){.mv_size = 8, .mv_data = bytes};
}

static void remove_sample(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    uint8_t bytes[8];
    MDB_val key = index_key(bytes, 4);
    CHECK(mdb_del(txn, samples, &key, NULL) == 0);
}

static void remove_path(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    uint8_t path[PATH_KEY_SIZE];
    path_key(path, "photos/4.jpg");
    MDB_val key = {.mv_size = sizeof path, .mv_data = path};
    CHECK(mdb_del(txn, paths, &key, NULL) == 0);
}

static void move_path(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    uint8_t path[PATH_KEY_SIZE], entry[SHARD_PATH_VALUE_MOST];
    path_key(path, "photos/4.jpg");
    MDB_val key = {.mv_size = sizeof path, .mv_data = path};
    MDB_val value = {.mv_data = entry};
    value.mv_size = shard_path_value_pack(entry, &(struct shard_path_value){.size = 1, .index = 5});
    CHECK(mdb_put(txn, paths, &key, &value, 0) == 0);
}

static void put_version_1(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    MDB_val key = {.mv_size = 5, .mv_data = "store"}, value;
    CHECK(mdb_get(txn, meta, &key, &value) == 0);
    char *text = xasprintf("%.*s", (int)value.mv_size, (const char *)value.mv_data);
    char *version = strstr(text, "\"version\":2");
    CHECK(version);
    version[10] = '1';
    value.mv_data = text;
    CHECK(mdb_put(txn, meta, &key, &value, 0) == 0);
    free(text);
}

/* Replaces record 4 by a frame made of this item, valid or not. */
static void put_frame(MDB_txn *txn, MDB_dbi samples, const struct shard_item *item,
                      const struct shard_info *info)
{
    uint16_t *moments = xmalloc(2 * shard_latent_count(info) * sizeof *moments);
    uint8_t *frame, bytes[8];
    size_t size;
    struct error e;
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    CHECK(shard_value_make(&frame, &size, moments, zstd, item, info, &e) == 0);
    MDB_val key = index_key(bytes, 4), value = {.mv_size = size, .mv_data = frame};
    CHECK(mdb_put(txn, samples, &key, &value, 0) == 0);
    ZSTD_freeCCtx(zstd);
    free(frame);
    free(moments);
}

static void put_nan(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    struct shards_sample x;
    shards_sample(&x, 4, 0);
    x.moments[17] = NAN;
    struct shard_item item = shards_item(&x, 4, 0);
    put_frame(txn, samples, &item, &shards_info);
}

static void put_other_values(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    struct shards_sample x;
    shards_sample(&x, 4, 1);
    struct shard_item item = shards_item(&x, 4, 0);
    put_frame(txn, samples, &item, &shards_info);
}

static void put_other_shape(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    struct shards_sample x;
    shards_sample(&x, 4, 0);
    struct shard_item item = shards_item(&x, 4, 0);
    struct shard_info info = shards_info;
    info.latent_width /= 2;
    info.latent_height *= 2;
    put_frame(txn, samples, &item, &info);
}

/* Record 4 as it is, in memory to be changed. */
static uint8_t *copy_value(MDB_txn *txn, MDB_dbi samples, MDB_val *value)
{
    uint8_t bytes[8];
    MDB_val key = index_key(bytes, 4);
    CHECK(mdb_get(txn, samples, &key, value) == 0);
    return value->mv_data = memcpy(xmalloc(value->mv_size), value->mv_data, value->mv_size);
}

static void put_value(MDB_txn *txn, MDB_dbi samples, MDB_val value)
{
    uint8_t bytes[8];
    MDB_val key = index_key(bytes, 4);
    CHECK(mdb_put(txn, samples, &key, &value, 0) == 0);
    free(value.mv_data);
}

static void flip_frame(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    MDB_val value;
    copy_value(txn, samples, &value)[1000] ^= 4;
    put_value(txn, samples, value);
}

/* "photos/4.jpg" is followed by a trailer of 12 bytes. */
static void flip_label(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    MDB_val value;
    uint8_t *copy = copy_value(txn, samples, &value);
    copy[value.mv_size - 12 - 1] ^= 4;
    put_value(txn, samples, value);
}

#define LABEL_SIZE (8 + strlen("photos/4.jpg") + 12)

static void put_other_label(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    MDB_val value;
    uint8_t *copy = copy_value(txn, samples, &value);
    value.mv_size -= LABEL_SIZE;
    shard_label_append(&copy, &value.mv_size, "photos/40.jpg");
    value.mv_data = copy;
    put_value(txn, samples, value);
}

static void remove_label(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    MDB_val value;
    copy_value(txn, samples, &value);
    value.mv_size -= LABEL_SIZE;
    put_value(txn, samples, value);
}

static void put_other_path(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    struct shards_sample x;
    shards_sample(&x, 4, 0);
    struct shard_item item = shards_item(&x, 4, 0);
    item.path = "photos/5.jpg";
    put_frame(txn, samples, &item, &shards_info);
}

/* A frame without a checksum would hide damage. */
static void put_unchecked(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    char frame[1000], blob[100] = "not a safetensors blob either";
    uint8_t bytes[8];
    size_t size = ZSTD_compress(frame, sizeof frame, blob, sizeof blob, 3);
    MDB_val key = index_key(bytes, 4), value = {.mv_size = size, .mv_data = frame};
    CHECK(mdb_put(txn, samples, &key, &value, 0) == 0);
}

static void put_no_frame(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    uint8_t bytes[8];
    MDB_val key = index_key(bytes, 4), value = {.mv_size = 7, .mv_data = "garbage"};
    CHECK(mdb_put(txn, samples, &key, &value, 0) == 0);
}

static void put_meta(MDB_txn *txn, MDB_dbi meta, char *text)
{
    MDB_val key = {.mv_size = 5, .mv_data = "store"};
    MDB_val value = {.mv_size = strlen(text), .mv_data = text};
    CHECK(mdb_put(txn, meta, &key, &value, 0) == 0);
}

static void put_later_version(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    put_meta(txn, meta, "{\"format\":\"ccld-shards\",\"version\":3}");
}

static void put_bad_meta(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    put_meta(txn, meta, "{\"format\":\"ccld-shards\",\"version\":1,\"latent_shape\":[4,-1,1e300]}");
}

static void put_broken_meta(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    put_meta(txn, meta, "{\"format\":");
}

static void no_change(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta)
{
    uint8_t bytes[8];
    MDB_val key = index_key(bytes, 0), value = {.mv_size = 1, .mv_data = "x"};
    CHECK(mdb_put(txn, samples, &key, &value, 0) == 0);
}

static void test_damaged_records(void)
{
    const struct {
        void (*f)(MDB_txn *txn, MDB_dbi samples, MDB_dbi paths, MDB_dbi meta);
        const char *expected, *what;
    } cases[] = {
        {remove_sample, "00000.mdb, index 5: index 4 was expected", "a gap in the keys"},
        {remove_sample, "9 samples, but 10 paths", "a path without a sample"},
        {remove_path, "00000.mdb, index 4: path 'photos/4.jpg' is missing", "a missing path"},
        {move_path, "00000.mdb, index 4: the paths list 'photos/4.jpg' at index 5",
         "a path that points elsewhere"},
        {put_version_1,
         "00000.mdb, index 4: its entry in the paths has a hash, but the shard is of version 1",
         "a hash that the version does not have"},
        {put_nan, "00000.mdb, index 4 ('photos/4.jpg'): non-finite latents", "NaN"},
        {put_other_values, "00000.mdb: statistics: mean", "statistics of other records"},
        {put_other_shape,
         "00000.mdb, index 4 ('photos/4.jpg'): type or shape of 'moments' does not match",
         "another shape"},
        {flip_frame, "00000.mdb, index 4 ('photos/4.jpg'): damaged zstd frame",
         "a flipped bit, and names the image"},
        {flip_label, "00000.mdb, index 4 ('photos/4.jpg'): damaged label", "a damaged label"},
        {put_other_label, "index 4: the path is 'photos/4.jpg', but the label 'photos/40.jpg'",
         "another label"},
        {put_other_path, "00000.mdb, index 5: duplicate path 'photos/5.jpg'", "a duplicate path"},
        {put_unchecked, "00000.mdb, index 4: zstd frame without checksum",
         "a frame without checksum"},
        {put_no_frame, "00000.mdb, index 4: not a zstd frame", "a value that is not a frame"},
        {put_later_version,
         "00000.mdb: shard format version 3; this program supports versions 1 to 2",
         "a later version"},
        {put_bad_meta, "00000.mdb: invalid 'latent_shape'", "a meta record with bad sizes"},
        {put_broken_meta, "00000.mdb: not a shard", "a meta record that is not JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        snprintf(name, sizeof name, "damaged%zu", i);
        CHECK(shards_write(name, 10, 5, 0, 0));
        change(name, cases[i].f);
        shards_ok_problem(name, cases[i].expected, cases[i].what);
    }
    CHECK(shards_write("unlabeled", 10, 5, 0, 0));
    change("unlabeled", remove_label);
    shards_ok_clean("unlabeled", "a record without label, as older versions wrote them");
    mkdir(shards_folder("lmdb"), 0777);
    change("lmdb", no_change);
    ok_refused("lmdb", "00000.mdb: not a shard: no meta record",
               "a file with empty databases of these names");
    mkdir(shards_folder("plain"), 0777);
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi main_database;
    CHECK(mdb_env_create(&env) == 0 &&
          mdb_env_open(env, file_of("plain", "00000.mdb"), MDB_NOSUBDIR, 0666) == 0 &&
          mdb_txn_begin(env, NULL, 0, &txn) == 0 &&
          mdb_dbi_open(txn, NULL, 0, &main_database) == 0);
    no_change(txn, main_database, 0, 0);
    CHECK(mdb_txn_commit(txn) == 0);
    mdb_env_close(env);
    ok_refused("plain", "00000.mdb: an LMDB file, but not a shard",
               "an LMDB file of another program");
}

/* A damaged record can be replaced once its file looks changed. */
static void test_repair(void)
{
    struct error e = {""};
    CHECK(shards_write("repair", 10, 5, 0, 0));
    change("repair", put_no_frame);
    struct shard_writer *w = shards_open("repair", 0, 0);
    tap_ok(w && shards_put(w, 3, 3, 1, &e) == 0, "a damaged record is replaced: %s", e.text);
    shard_writer_close(w);
    shards_ok_clean("repair", "after the repair");
}

/* Flips one bit in each frame in turn; each must be detected. */
static void test_bit_rot(void)
{
    CHECK(shards_write("rot", 5, 5, 0, 0));
    uint8_t *data;
    size_t size;
    struct error e;
    CHECK(file_read(&data, &size, file_of("rot", "00000.mdb"), 1 << 30, &e) == 0);
    int found = 0, detected = 0;
    for (size_t at = 0; at + 4000 < size; at++) {
        if (memcmp(data + at, "\x28\xb5\x2f\xfd", 4) != 0)
            continue;
        found++;
        data[at + 3000] ^= 4;
        write_file(file_of("rot", "00000.mdb"), data, size);
        data[at + 3000] ^= 4;
        struct shard_store *s;
        struct shard_record r;
        shard_record_init(&r);
        CHECK(shard_store_open(&s, shards_folder("rot"), &e) == 0);
        int bad = 0;
        for (int i = 0; i < 5; i++)
            bad += shard_store_read(s, i, &r, &e) != 0;
        shard_record_release(&r);
        shard_store_close(s);
        detected += bad == 1 && strstr(e.text, "damaged zstd frame");
    }
    tap_ok(found == 5 && detected == 5, "a flipped bit is detected in %d of %d frames", detected,
           found);
    write_file(file_of("rot", "00000.mdb"), data, size);
    free(data);
    shards_ok_clean("rot", "with the bits restored");
}

/* A reader that opened the store before the map grew keeps reading. */
static void test_reader_beside_writer(void)
{
    int to_child[2], to_parent[2];
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    CHECK(shards_write("beside", 5, 5, 0, 1));
    pid_t child = fork();
    char go = 0;
    if (child == 0) {
        struct shard_store *s;
        struct error e;
        bool good = shard_store_open(&s, shards_folder("beside"), &e) == 0;
        good = write(to_parent[1], "", 1) == 1 && good;
        good = read(to_child[0], &go, 1) == 1 && good;
        for (int i = 0; good && i < 5; i++)
            good = shards_record_is(s, i, i, 0);
        _exit(good && shard_store_count(s) == 5 ? 0 : 1);
    }
    struct error e;
    struct shard_writer *w = shards_open("beside", 0, 0);
    bool good = w && read(to_parent[0], &go, 1) == 1;
    for (int i = 5; good && i < 300; i += 5)
        good = shards_put(w, i, 5, 0, &e) == 0;
    tap_ok(good, "a writer grows the map beside a reader");
    good = write(to_child[1], "", 1) == 1;
    int status;
    tap_ok(good && waitpid(child, &status, 0) == child && status == 0,
           "the reader still reads the records it opened");
    shard_writer_close(w);
}

int main(void)
{
    test_foreign_files();
    test_damaged_records();
    test_repair();
    test_bit_rot();
    test_reader_beside_writer();
    return tap_done();
}
