/* Which images are left out because of their bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "common/encode/unique.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

/* Valid until the call after the next. */
static const uint8_t *hash_of(int k)
{
    static uint8_t hashes[2][CONTENT_HASH_SIZE];
    static int calls;
    uint8_t *hash = hashes[++calls % 2];
    content_hash(hash, &k, sizeof k);
    return hash;
}

static void test_claims(void)
{
    enum { IMAGES = 5000 };
    struct unique *u = unique_new(false);
    int claimed = 0, again = 0, missing = 0;
    for (int k = 0; k < IMAGES; k++)
        claimed += unique_claim(u, hash_of(k));
    for (int k = 0; k < IMAGES; k++) {
        again += unique_claim(u, hash_of(k));
        missing += !unique_has(u, hash_of(k));
    }
    tap_ok(claimed == IMAGES && again == 0 && missing == 0 && !unique_has(u, hash_of(IMAGES)),
           "each image is claimed once");
    unique_free(u);
}

static void test_replaced(void)
{
    struct unique *u = unique_new(false);
    unique_claim(u, hash_of(1));
    unique_replace(u, hash_of(1), hash_of(2));
    tap_ok(!unique_has(u, hash_of(1)) && unique_has(u, hash_of(2)) && unique_claim(u, hash_of(1)),
           "an image whose record is replaced may be encoded again");
    unique_replace(u, hash_of(2), hash_of(2));
    unique_leave_out(u, hash_of(2));
    unique_replace(u, hash_of(2), hash_of(2));
    unique_replace(u, NULL, hash_of(2));
    unique_replace(u, hash_of(2), hash_of(3));
    tap_ok(unique_has(u, hash_of(2)) && unique_orphans(u) == 0,
           "but not while another record has the same bytes");
    unique_replace(u, hash_of(2), hash_of(3));
    unique_leave_out(u, hash_of(9));
    tap_ok(!unique_has(u, hash_of(2)) && unique_orphans(u) == 2,
           "what was left out because of a record that is replaced later is told");
    unique_free(u);
}

static void test_store(void)
{
    struct error e = {""};
    int64_t unhashed = -1, known = 0;
    struct shards_sample x;
    CHECK(shards_write("old", 10, 5, 4, 0) && shards_write("new", 20, 5, 7, 0));
    shards_make_version_1("old");
    struct shard_writer *old = shards_open("old", 4, 0), *new = shards_open("new", 7, 0);
    struct unique *u = unique_new(false);
    tap_ok(unique_add_store(u, new, &unhashed, &e) == 0 && unhashed == 0,
           "the images of a store are compared with");
    for (int k = 0; k < 25; k++) {
        shards_sample(&x, k, 0);
        known += unique_has(u, x.hash);
    }
    tap_ok(known == 20, "all of them");
    tap_ok(unique_add_store(u, old, &unhashed, &e) == 0 && unhashed == 10,
           "those of a store without hashes are counted");
    CHECK(shards_put(old, 8, 5, 1, &e) == 0);
    shard_writer_close(old);
    unique_free(u);
    u = unique_new(false);
    old = shards_open("old", 4, 0);
    tap_ok(unique_add_store(u, old, &unhashed, &e) == 0 && unhashed == 8,
           "what is added to it or replaced gets a hash");
    shard_writer_close(old);
    shard_writer_close(new);
    shards_ok_clean("old", "the mixed store");
    unique_free(u);
}

/* Every process claims all images, in an order of its own. Returns its claims. */
static int claim_all(struct unique *u, int process, int images)
{
    int claimed = 0;
    for (int i = 0; i < images; i++)
        claimed += unique_claim(u, hash_of((i * 7 + process * 31) % images));
    return claimed;
}

static void test_processes(void)
{
    enum { PROCESSES = 3, IMAGES = 1000 };
    struct unique *u = unique_new(true);
    int ends[2], sum = 0, status;
    CHECK(pipe(ends) == 0);
    unique_claim(u, hash_of(5));
    for (int k = 0; k < PROCESSES; k++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            int claimed = claim_all(u, k, IMAGES);
            _exit(write(ends[1], &claimed, sizeof claimed) == sizeof claimed ? 0 : 1);
        }
    }
    close(ends[1]);
    for (int claimed; read(ends[0], &claimed, sizeof claimed) == sizeof claimed;)
        sum += claimed;
    close(ends[0]);
    for (int k = 0; k < PROCESSES; k++)
        CHECK(wait(&status) > 0 && status == 0);
    tap_ok(sum == IMAGES - 1 && claim_all(u, 0, IMAGES) == 0,
           "of %d processes, one claims each image", PROCESSES);
    unique_free(u);
}

int main(void)
{
    test_claims();
    test_replaced();
    test_store();
    test_processes();
    return tap_done();
}
