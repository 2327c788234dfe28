/* Records of shard stores in training: their order, held-out ones, batches of any number of threads
 * and ranks, resuming, and errors. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lmdb.h>

#include "common/base/message.h"
#include "common/data/latent_set.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

#define RECORDS 101
#define MOMENTS (2 * SHARDS_LATENT)

static struct latent_set *open_one(const char *name, int64_t holdout)
{
    const char *folder = shards_folder(name);
    struct latent_set *d = NULL;
    struct error e;
    if (latent_set_open(&d, &folder, 1, &(struct latent_set_options){.holdout = holdout}, &e) != 0)
        tap_diag("%s", e.text);
    CHECK(d);
    return d;
}

static bool is_held_out(const struct latent_set *d, int64_t record)
{
    for (int64_t i = 0; i < latent_set_holdout_count(d); i++)
        if (order_holdout_at(latent_set_order(d), i) == record)
            return true;
    return false;
}

/* Whether an epoch contains every record that is not held out exactly once, and no other. */
static bool epoch_is_complete(const struct latent_set *d, uint64_t seed, int64_t epoch)
{
    int seen[RECORDS] = {0};
    for (int64_t i = 0; i < latent_set_training_count(d); i++) {
        int64_t record = latent_set_record_at(d, seed, epoch, i);
        if (record < 0 || record >= RECORDS || seen[record]++)
            return false;
    }
    for (int64_t i = 0; i < RECORDS; i++)
        if (seen[i] == is_held_out(d, i))
            return false;
    return true;
}

static void test_permutation(void)
{
    bool complete = true;
    for (int64_t holdout = 0; holdout < RECORDS; holdout++) {
        struct latent_set *d = open_one("plain", holdout);
        for (int64_t epoch = 0; epoch < 20; epoch++) {
            complete &= epoch_is_complete(d, 5, epoch) &&
                        epoch_is_complete(d, UINT64_MAX - (uint64_t)epoch, epoch);
        }
        latent_set_close(d);
    }
    tap_ok(complete, "every epoch contains each record once, with 1 to %d records", RECORDS);

    struct latent_set *d = open_one("plain", 0);
    int64_t same_epoch = 0, same_seed = 0, same_run = 0, in_order = 0, before[RECORDS];
    for (int64_t i = 0; i < RECORDS; i++) {
        before[i] = latent_set_record_at(d, 5, 3, i);
        same_epoch += before[i] == latent_set_record_at(d, 5, 4, i);
        same_seed += before[i] == latent_set_record_at(d, 6, 3, i);
        in_order += before[i] == i;
    }
    latent_set_close(d);
    d = open_one("plain", 0);
    for (int64_t i = 0; i < RECORDS; i++)
        same_run += before[i] == latent_set_record_at(d, 5, 3, i);
    tap_ok(same_run == RECORDS, "the order depends only on seed and epoch");
    tap_ok(same_epoch < 10 && same_seed < 10 && in_order < 10,
           "another epoch or seed gives another order");
    latent_set_close(d);
}

/* Pearson's tests that every place of a record, and every record after it, is equally likely. */
static void test_uniformity(void)
{
    enum { N = 7, EPOCHS = 7000 };
    struct latent_set *d = open_one("plain", RECORDS - N);
    int64_t ordinal[RECORDS] = {0}, next = 0;
    for (int64_t i = 0; i < RECORDS; i++)
        if (!is_held_out(d, i))
            ordinal[i] = next++;
    int places[N][N] = {{0}}, pairs[N][N] = {{0}};
    for (int64_t epoch = 0; epoch < EPOCHS; epoch++) {
        int64_t before = ordinal[latent_set_record_at(d, 1, epoch, N - 1)];
        for (int64_t i = 0; i < N; i++) {
            int64_t record = ordinal[latent_set_record_at(d, 1, epoch, i)];
            places[i][record]++;
            pairs[before][record]++;
            before = record;
        }
    }
    double of_places = 0, of_pairs = 0;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            double p = places[i][j] - EPOCHS / N, q = pairs[i][j] - EPOCHS / (N - 1.0);
            of_places += p * p / (EPOCHS / N);
            of_pairs += i == j ? 0 : q * q / (EPOCHS / (N - 1.0));
        }
    }
    /* Expected are 42 and 36; chance exceeds 90 once in 30000 times. */
    tap_ok(of_places <= 90, "every place is equally likely: chi-square %.1f", of_places);
    tap_ok(of_pairs <= 90, "every successor is equally likely: chi-square %.1f", of_pairs);
    latent_set_close(d);
}

static void test_holdout(void)
{
    struct latent_set *d = open_one("plain", 10);
    bool ascending = true, in_range = true;
    for (int64_t i = 0; i < 10; i++) {
        int64_t record = order_holdout_at(latent_set_order(d), i);
        in_range &= record >= 0 && record < RECORDS;
        ascending &= i == 0 || record > order_holdout_at(latent_set_order(d), i - 1);
    }
    tap_ok(latent_set_order(d)->records == RECORDS &&
               latent_set_training_count(d) == RECORDS - 10 && latent_set_holdout_count(d) == 10 &&
               ascending && in_range,
           "10 records are held out");

    struct holdout_batch h;
    struct error e = {""};
    holdout_batch_init(&h);
    bool right = true;
    const int64_t ranges[][2] = {{0, 4}, {4, 6}, {9, 1}};
    for (int k = 0; k < 3; k++) {
        right &= holdout_batch_read(&h, d, ranges[k][0], ranges[k][1], &e) == 0 &&
                 h.data.n == ranges[k][1] && h.data.height == SHARDS_SIDE;
        for (int64_t i = 0; right && i < h.data.n; i++) {
            struct shards_sample expected;
            uint16_t f16[MOMENTS];
            int64_t record = order_holdout_at(latent_set_order(d), ranges[k][0] + i);
            shards_sample(&expected, (int)record, 0);
            dtype_from_f32(DTYPE_F16, f16, expected.moments, MOMENTS);
            dtype_to_f32(expected.moments, DTYPE_F16, f16, MOMENTS);
            right &=
                h.data.samples[i] == (uint64_t)record &&
                !memcmp(h.data.moments + i * MOMENTS, expected.moments, sizeof expected.moments) &&
                !memcmp(h.data.embeds + i * SHARDS_EMBED, expected.embed, sizeof expected.embed);
        }
    }
    tap_ok(right, "held-out records are read");
    holdout_batch_release(&h);

    int moved = 0;
    for (int64_t n = 0; n < 3 * RECORDS; n += n ? 23 : RECORDS) {
        struct shard_writer *w = shards_open("grown", 16, 0);
        CHECK(w && !shards_put(w, (int)n, n ? 23 : RECORDS, 0, &e));
        shard_writer_close(w);
        struct latent_set *grown = open_one("grown", 10);
        for (int64_t i = 0; i < 10; i++) {
            int64_t record = order_holdout_at(latent_set_order(grown), i);
            moved += record < RECORDS && !is_held_out(d, record);
        }
        latent_set_close(grown);
    }
    tap_ok(moved == 0, "a store that has grown holds out no record that was trained on");
    latent_set_close(d);
}

static struct batch_reader_options reader_options(int64_t batch, int64_t accumulate)
{
    return (struct batch_reader_options){
        .seed = 9, .batch = batch, .accumulate = accumulate, .ranks = 1};
}

static struct latent_reader *open_reader(struct latent_set *d, const struct batch_reader_options *o)
{
    struct latent_reader *r = NULL;
    struct error e;
    if (latent_reader_open(&r, d, NULL, o, &e) != 0)
        tap_diag("%s", e.text);
    CHECK(r);
    return r;
}

static const struct latent_batch *next(struct latent_reader *r)
{
    const struct latent_batch *b = NULL;
    struct error e;
    if (latent_reader_next(r, &b, &e) != 0)
        tap_diag("%s", e.text);
    CHECK(b);
    return b;
}

static bool content_is_right(const struct unet_batch *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        struct shards_sample expected;
        uint16_t f16[MOMENTS];
        shards_sample(&expected, (int)b->samples[i], 0);
        dtype_from_f32(DTYPE_F16, f16, expected.moments, MOMENTS);
        for (int j = 0; j < MOMENTS; j++)
            if (b->moments[i * MOMENTS + j] != f16_to_f32(f16[j]))
                return false;
        if (memcmp(b->embeds + i * SHARDS_EMBED, expected.embed, sizeof expected.embed))
            return false;
    }
    return true;
}

/* Compares 3 epochs with latent_set_record_at, which the tests above check. */
static void test_batches(int threads, int64_t ahead, int64_t batch, int64_t accumulate)
{
    struct latent_set *d = open_one("plain", 5);
    struct batch_reader_options o = reader_options(batch, accumulate);
    o.threads = threads;
    o.ahead = ahead;
    struct latent_reader *r = open_reader(d, &o);
    int64_t steps = order_steps_per_epoch(latent_set_order(d), batch * accumulate);
    bool right = steps == 96 / (batch * accumulate);
    for (int64_t s = 0; s < 3 * steps; s++) {
        for (int64_t k = 0; k < accumulate; k++) {
            const struct latent_batch *b = next(r);
            right &= b->step == s && b->micro_batch == k && b->data.n == batch;
            right &= b->at.epoch == s / steps && b->at.place == s % steps * batch * accumulate;
            right &= content_is_right(&b->data);
            for (int64_t i = 0; i < batch; i++) {
                right &= (int64_t)b->data.samples[i] ==
                         latent_set_record_at(d, 9, b->at.epoch, b->at.place + k * batch + i);
            }
        }
    }
    tap_ok(right && latent_reader_waited(r) >= 0,
           "%d threads, %" PRId64 " ahead: 3 epochs of micro-batches of %" PRId64 ", %" PRId64
           " per step",
           threads, ahead, batch, accumulate);
    latent_reader_close(r);
    latent_set_close(d);
}

static void test_accumulation_and_ranks(void)
{
    struct latent_set *d = open_one("plain", 0);
    struct batch_reader_options o = reader_options(24, 1);
    struct latent_reader *whole = open_reader(d, &o), *ranks[3];
    o = reader_options(8, 3);
    struct latent_reader *parts = open_reader(d, &o);
    o = reader_options(4, 2);
    o.ranks = 3;
    for (o.rank = 0; o.rank < 3; o.rank++)
        ranks[o.rank] = open_reader(d, &o);
    bool accumulated = true, divided = true;
    for (int step = 0; step < 9; step++) {
        const struct latent_batch *b = next(whole);
        for (int k = 0; k < 3; k++) {
            accumulated &=
                !memcmp(next(parts)->data.samples, b->data.samples + 8 * k, 8 * sizeof(uint64_t));
        }
        for (int k = 0; k < 2; k++) {
            for (int rank = 0; rank < 3; rank++) {
                divided &= !memcmp(next(ranks[rank])->data.samples,
                                   b->data.samples + (3 * k + rank) * 4, 4 * sizeof(uint64_t));
            }
        }
    }
    tap_ok(accumulated, "3 micro-batches of 8 equal one batch of 24");
    tap_ok(divided, "3 ranks with 2 micro-batches of 4 each divide the batch of 24");
    latent_reader_close(whole);
    latent_reader_close(parts);
    for (int i = 0; i < 3; i++)
        latent_reader_close(ranks[i]);
    latent_set_close(d);
}

static void test_resume(void)
{
    struct latent_set *d = open_one("plain", 0);
    struct data_position zero = {0, 0};
    struct batch_reader_options o = reader_options(5, 2);
    bool same = true, composed = true;
    for (int64_t done = 0; done < 35; done++) {
        o.first_step = 0;
        o.start = zero;
        struct latent_reader *straight = open_reader(d, &o);
        for (int64_t i = 0; i < 2 * done; i++)
            next(straight);
        o.first_step = done;
        o.start = order_advance(latent_set_order(d), zero, done, 10);
        struct latent_reader *resumed = open_reader(d, &o);
        for (int i = 0; i < 6; i++) {
            const struct latent_batch *a = next(straight), *b = next(resumed);
            same &= a->step == b->step && a->at.place == b->at.place &&
                    a->at.epoch == b->at.epoch && a->micro_batch == b->micro_batch &&
                    !memcmp(a->data.samples, b->data.samples, 5 * sizeof(uint64_t));
        }
        for (int64_t more = 0; more < 25; more++) {
            struct data_position at = order_advance(latent_set_order(d), o.start, more, 10),
                                 to = order_advance(latent_set_order(d), zero, done + more, 10);
            composed &= at.epoch == to.epoch && at.place == to.place;
        }
        latent_reader_close(straight);
        latent_reader_close(resumed);
    }
    tap_ok(same, "a run resumed after 0 to 34 steps reads the same batches");
    tap_ok(composed, "advancing twice equals advancing by the sum");

    struct data_position middle = {2, 37}, p = order_advance(latent_set_order(d), middle, 2, 16);
    tap_ok(p.epoch == 2 && p.place == 69, "another batch size continues at the same place");
    p = order_advance(latent_set_order(d), middle, 4, 16);
    tap_ok(p.epoch == 3 && p.place == 0, "an epoch ends when no whole batch is left");
    p = order_advance(latent_set_order(d), (struct data_position){2, 1000}, 1, 16);
    tap_ok(p.epoch == 3 && p.place == 16, "a place beyond the end is in the next epoch");
    latent_set_close(d);
}

static void test_two_stores(void)
{
    char first[4200], second[4200];
    snprintf(first, sizeof first, "%s", shards_folder("plain"));
    snprintf(second, sizeof second, "%s", shards_folder("small"));
    const char *folders[] = {first, second};
    struct error e = {""};
    struct latent_set *d = NULL;
    CHECK(!latent_set_open(&d, folders, 2, &(struct latent_set_options){.holdout = 0}, &e));
    char *path = NULL, *text = latent_set_describe(d, RECORDS + 8);
    bool found = !latent_set_path(d, RECORDS + 7, &path, &e);
    tap_ok(found && latent_set_order(d)->records == RECORDS + 12 && !strcmp(path, "photos/7.jpg"),
           "records of two stores: %s", found ? path : e.text);
    tap_ok(strstr(text, "small/00001.mdb, index 2, 'photos/8.jpg'") != NULL,
           "a record's description: %s", text);
    free(text);
    free(path);

    struct latent_statistics got = latent_set_statistics(d);
    bool finished = latent_set_finished(d);
    char hash[3][33];
    latent_set_hash(hash[0], d);
    latent_set_close(d);

    struct shard_store *one = NULL, *other = NULL;
    CHECK(!shard_store_open(&one, first, &e) && !shard_store_open(&other, second, &e));
    struct latent_statistics all = shard_store_statistics(one), s = shard_store_statistics(other);
    latent_statistics_merge(&all, &s);
    tap_ok(got.count == all.count && got.mean == all.mean && got.mean_square == all.mean_square &&
               finished,
           "the stores' statistics are merged");
    shard_store_close(one);
    shard_store_close(other);

    d = open_one("plain", 7);
    latent_set_hash(hash[1], d);
    latent_set_close(d);
    d = open_one("copy", 0);
    latent_set_hash(hash[2], d);
    latent_set_close(d);
    tap_ok(strlen(hash[0]) == 32 && strcmp(hash[0], hash[1]) != 0 && !strcmp(hash[1], hash[2]),
           "the hash depends on the data, not on the folder");
}

static void test_errors(void)
{
    struct error e = {""};
    char first[4200], second[4200];
    snprintf(first, sizeof first, "%s", shards_folder("plain"));
    snprintf(second, sizeof second, "%s", shards_folder("other"));
    const char *folders[] = {first, second};
    struct latent_set *d = NULL;
    tap_ok(latent_set_open(&d, folders, 2, &(struct latent_set_options){.holdout = 0}, &e) &&
               strstr(e.text, "autoencoder") && strstr(e.text, "plain") && strstr(e.text, "other"),
           "refused: stores of two autoencoders: %s", e.text);
    tap_ok(latent_set_open(&d, folders, 1, &(struct latent_set_options){.holdout = RECORDS}, &e) &&
               strstr(e.text, "hold out"),
           "refused: all records held out: %s", e.text);
    folders[1] = shards_folder("nowhere");
    tap_ok(latent_set_open(&d, folders, 2, &(struct latent_set_options){.holdout = 0}, &e) &&
               strstr(e.text, "nowhere"),
           "refused: a folder without a store: %s", e.text);

    d = open_one("plain", 5);
    struct latent_reader *r;
    struct batch_reader_options o = reader_options(49, 2);
    tap_ok(latent_reader_open(&r, d, NULL, &o, &e) && strstr(e.text, "96") && strstr(e.text, "98"),
           "refused: fewer records than a batch: %s", e.text);
    o = reader_options(48, 2);
    r = open_reader(d, &o);
    tap_ok(next(r)->data.n == 48, "as many records as a batch");
    latent_reader_close(r);
    latent_set_close(d);
}

#define DAMAGED 12 /* records, 8 of them in the first shard */
#define LABELED 11 /* index 3 of the second shard: damaged within its frame */
#define GARBAGE 9  /* index 1: without frame and label */

/* flip: inverts a byte of the value; otherwise replaces it. */
static void damage(const char *store, const char *shard, uint8_t index, bool flip)
{
    char *file = xasprintf("%s/%s", shards_folder(store), shard);
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi samples;
    uint8_t key_bytes[8] = {0, 0, 0, 0, 0, 0, 0, index};
    MDB_val key = {8, key_bytes}, value;
    CHECK(!mdb_env_create(&env) && !mdb_env_set_maxdbs(env, 3) &&
          !mdb_env_open(env, file, MDB_NOSUBDIR, 0666) && !mdb_txn_begin(env, NULL, 0, &txn) &&
          !mdb_dbi_open(txn, "samples", 0, &samples) && !mdb_get(txn, samples, &key, &value));
    size_t size = value.mv_size;
    uint8_t *copy = memcpy(xmalloc(size), value.mv_data, size);
    copy[size / 2] ^= 0xff;
    value = flip ? (MDB_val){size, copy} : (MDB_val){7, "garbage"};
    CHECK(!mdb_put(txn, samples, &key, &value, 0) && !mdb_txn_commit(txn));
    mdb_env_close(env);
    free(copy);
    free(file);
}

/* Whether record `got` is the first readable one from this place of an epoch on. */
static bool is_substitute(const struct latent_set *d, int64_t got, int64_t epoch, int64_t place)
{
    int64_t count = latent_set_training_count(d);
    int64_t record = latent_set_record_at(d, 9, epoch, place % count);
    while (record == LABELED || record == GARBAGE)
        record = latent_set_record_at(d, 9, epoch, ++place % count);
    return got == record;
}

static void test_damage(void)
{
    damage("damaged", "00001.mdb", LABELED - 8, true);
    damage("damaged", "00001.mdb", GARBAGE - 8, false);
    struct latent_set *d = open_one("damaged", 0);
    struct unreadable *u = latent_set_unreadable(d);
    struct batch_reader_options o = reader_options(3, 1);
    struct latent_reader *r = open_reader(d, &o);
    bool right = true;
    for (int step = 0; step < 5 * DAMAGED / 3; step++) {
        const struct latent_batch *b = next(r);
        right &= content_is_right(&b->data);
        for (int64_t i = 0; i < 3; i++)
            right &= is_substitute(d, (int64_t)b->data.samples[i], b->at.epoch, b->at.place + i);
    }
    tap_ok(right, "in 5 epochs, others take the places of damaged records");
    latent_reader_close(r);
    int64_t found[4];
    int n = unreadable_take(u, found, 4);
    tap_ok(n == 2 && found[0] + found[1] == LABELED + GARBAGE && unreadable_take(u, found, 4) == 0,
           "each is noticed once");

    char *path = NULL, *text = latent_set_describe(d, LABELED);
    struct error e;
    tap_ok(latent_set_path(d, LABELED, &path, &e) == 0 && strcmp(path, "photos/11.jpg") == 0 &&
               strstr(text, "00001.mdb, index 3, 'photos/11.jpg'"),
           "the label names the damaged record: %s", text);
    free(text);
    text = latent_set_describe(d, GARBAGE);
    tap_ok(strstr(text, "00001.mdb, index 1") && !strchr(text, '\''),
           "the description without label: %s", text);
    free(text);
    free(path);
    latent_set_close(d);
}

static void test_damaged_holdout(void)
{
    struct latent_set *d = open_one("damaged", DAMAGED - 1);
    struct holdout_batch h;
    struct error e = {""};
    holdout_batch_init(&h);
    bool right = holdout_batch_read(&h, d, 0, DAMAGED - 1, &e) == 0;
    for (int64_t i = 0; right && i < DAMAGED - 1; i++) {
        bool damaged = h.data.samples[i] == LABELED || h.data.samples[i] == GARBAGE;
        right = h.damaged[i] == damaged && (!damaged || h.moments[i * MOMENTS] == 0);
    }
    tap_ok(right, "damaged held-out records are marked %s", e.text);
    holdout_batch_release(&h);
    latent_set_close(d);
}

/* The same error at every call. */
static void test_nothing_readable(void)
{
    for (uint8_t i = 0; i < 6; i++)
        damage("lost", "00000.mdb", i, i % 2);
    struct latent_set *d = open_one("lost", 0);
    struct batch_reader_options o = reader_options(2, 1);
    struct latent_reader *r = open_reader(d, &o);
    const struct latent_batch *b;
    struct error e = {""}, again = {""};
    tap_ok(latent_reader_next(r, &b, &e) && latent_reader_next(r, &b, &again) &&
               strcmp(e.text, "all records are damaged") == 0 && strcmp(again.text, e.text) == 0,
           "a store without a readable record: %s", e.text);
    latent_reader_close(r);
    latent_set_close(d);
}

static void write_stores(void)
{
    CHECK(shards_write("plain", RECORDS, 50, 40, 0) && shards_write("copy", RECORDS, 50, 40, 0));
    CHECK(shards_write("small", 12, 6, 6, 0) && shards_write("damaged", DAMAGED, 4, 8, 0));
    CHECK(shards_write("lost", 6, 6, 6, 0));
    struct shard_info other = shards_info;
    memcpy(other.autoencoder.hash, "ffff", 4);
    struct shard_writer *w;
    struct shard_writer_options o = {0};
    struct error e;
    CHECK(!shard_writer_open(&w, shards_folder("other"), &other, &o, &e));
    CHECK(!shards_put(w, 0, 3, 0, &e));
    shard_writer_close(w);
}

int main(void)
{
    write_stores();
    test_permutation();
    test_uniformity();
    test_holdout();
    test_batches(0, 0, 8, 1);
    test_batches(1, 1, 5, 3);
    test_batches(5, 1, 7, 1);
    test_batches(3, 9, 1, 4);
    test_accumulation_and_ranks();
    test_resume();
    test_two_stores();
    test_errors();
    test_damage();
    test_damaged_holdout();
    test_nothing_readable();
    return tap_done();
}
