#include "common/encode/unique.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/message.h"

/* Images by hash: an open-addressing table, at most 3/4 full. Hashes stay when their last image
 * goes, since another one may come. */
struct table {
    uint8_t (*hashes)[CONTENT_HASH_SIZE];
    int32_t *images; /* -1: the slot is free */
    size_t capacity, count;
};

/* What happened to an image, for other processes. */
struct change {
    uint8_t hash[CONTENT_HASH_SIZE];
    int32_t images; /* 1: one more, -1: one fewer */
};

struct shared {
    pthread_mutex_t mutex;
    int64_t changes; /* in the log */
};

struct unique {
    pthread_mutex_t mutex; /* of this process's threads; guards what follows */
    struct table table;
    struct path_set left_out; /* hashes */
    int64_t orphans;
    struct shared *shared; /* NULL: there are no other processes */
    int log;         /* a file of struct change, in memory, written with shared's mutex held */
    int64_t applied; /* changes of the log that the table has */
};

static void table_allocate(struct table *t, size_t capacity)
{
    *t = (struct table){.capacity = capacity};
    t->hashes = xmalloc(capacity * sizeof *t->hashes);
    t->images = xmalloc(capacity * sizeof *t->images);
    for (size_t i = 0; i < capacity; i++)
        t->images[i] = -1;
}

static void table_release(struct table *t)
{
    free(t->hashes);
    free(t->images);
}

/* The slot that has the hash, or the free slot for it. */
static size_t table_find(const struct table *t, const uint8_t hash[CONTENT_HASH_SIZE])
{
    uint64_t first;
    memcpy(&first, hash, sizeof first);
    size_t mask = t->capacity - 1, i = first & mask;
    while (t->images[i] >= 0 && memcmp(t->hashes[i], hash, CONTENT_HASH_SIZE) != 0)
        i = (i + 1) & mask;
    return i;
}

static void table_reserve(struct table *t, size_t count)
{
    struct table larger;
    size_t capacity = t->capacity;
    while (count > capacity / 4 * 3)
        capacity *= 2;
    if (capacity == t->capacity)
        return;
    table_allocate(&larger, capacity);
    larger.count = t->count;
    for (size_t i = 0; i < t->capacity; i++) {
        if (t->images[i] < 0)
            continue;
        size_t slot = table_find(&larger, t->hashes[i]);
        memcpy(larger.hashes[slot], t->hashes[i], CONTENT_HASH_SIZE);
        larger.images[slot] = t->images[i];
    }
    table_release(t);
    *t = larger;
}

static int32_t images_of(const struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE])
{
    int32_t images = u->table.images[table_find(&u->table, hash)];
    return images < 0 ? 0 : images;
}

static void apply(struct unique *u, const struct change *c)
{
    struct table *t = &u->table;
    table_reserve(t, t->count + 1);
    size_t slot = table_find(t, c->hash);
    if (t->images[slot] < 0) {
        memcpy(t->hashes[slot], c->hash, CONTENT_HASH_SIZE);
        t->images[slot] = 0;
        t->count++;
    }
    t->images[slot] += c->images;
    if (t->images[slot] <= 0) {
        t->images[slot] = 0;
        u->orphans += c->images < 0 && path_set_has(&u->left_out, c->hash);
    }
}

/* Applies what other processes have done. */
static void catch_up(struct unique *u)
{
    struct change changes[256];
    while (u->applied < u->shared->changes) {
        int64_t left = u->shared->changes - u->applied;
        size_t n = left < 256 ? (size_t)left : 256, size = n * sizeof *changes;
        ssize_t got = pread(u->log, changes, size, u->applied * (int64_t)sizeof *changes);
        if (got != (ssize_t)size)
            die("cannot read what other processes encode: %s", strerror(errno));
        for (size_t i = 0; i < n; i++)
            apply(u, &changes[i]);
        u->applied += (int64_t)n;
    }
}

static void lock(struct unique *u)
{
    pthread_mutex_lock(&u->mutex);
    if (!u->shared)
        return;
    pthread_mutex_lock(&u->shared->mutex);
    catch_up(u);
}

static void unlock(struct unique *u)
{
    if (u->shared)
        pthread_mutex_unlock(&u->shared->mutex);
    pthread_mutex_unlock(&u->mutex);
}

/* Makes changes, with the locks held. */
static void change(struct unique *u, const struct change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        apply(u, &changes[i]);
    if (!u->shared)
        return;
    int64_t at = u->shared->changes * (int64_t)sizeof *changes;
    ssize_t size = (ssize_t)(n * sizeof *changes);
    if (pwrite(u->log, changes, (size_t)size, at) != size)
        die("cannot tell other processes what is encoded: %s", strerror(errno));
    u->shared->changes += (int64_t)n;
    u->applied = u->shared->changes;
}

static void change_one(struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE], int32_t images)
{
    struct change c = {.images = images};
    memcpy(c.hash, hash, sizeof c.hash);
    change(u, &c, 1);
}

static void share(struct unique *u)
{
    pthread_mutexattr_t attributes;
    u->shared =
        mmap(NULL, sizeof *u->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    u->log = memfd_create("ccld-encode", MFD_CLOEXEC);
    if (u->shared == MAP_FAILED || u->log < 0)
        die("cannot share memory between processes: %s", strerror(errno));
    CHECK(pthread_mutexattr_init(&attributes) == 0);
    CHECK(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutex_init(&u->shared->mutex, &attributes) == 0);
    pthread_mutexattr_destroy(&attributes);
}

struct unique *unique_new(bool shared)
{
    struct unique *u = xcalloc(1, sizeof *u);
    pthread_mutex_init(&u->mutex, NULL);
    table_allocate(&u->table, 1024);
    path_set_init(&u->left_out);
    u->log = -1;
    if (shared)
        share(u);
    return u;
}

void unique_free(struct unique *u)
{
    if (!u)
        return;
    if (u->shared)
        munmap(u->shared, sizeof *u->shared);
    if (u->log >= 0)
        close(u->log);
    table_release(&u->table);
    path_set_release(&u->left_out);
    pthread_mutex_destroy(&u->mutex);
    free(u);
}

/* Changes that are made together. */
struct loading {
    struct unique *unique;
    struct change changes[1024];
    size_t count;
    int64_t unhashed;
};

static void flush(struct loading *l)
{
    change(l->unique, l->changes, l->count);
    l->count = 0;
}

static void load(void *arg, const uint8_t *hash)
{
    struct loading *l = arg;
    if (!hash) {
        l->unhashed++;
        return;
    }
    l->changes[l->count].images = 1;
    memcpy(l->changes[l->count++].hash, hash, CONTENT_HASH_SIZE);
    if (l->count == sizeof l->changes / sizeof *l->changes)
        flush(l);
}

int unique_add_store(struct unique *u, struct shard_writer *store, int64_t *unhashed,
                     struct error *e)
{
    struct loading l = {.unique = u};
    lock(u);
    table_reserve(&u->table, u->table.count + (size_t)shard_writer_count(store));
    int status = shard_writer_each_hash(store, load, &l, e);
    flush(&l);
    unlock(u);
    *unhashed = l.unhashed;
    return status;
}

bool unique_has(struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE])
{
    lock(u);
    bool has = images_of(u, hash) > 0;
    unlock(u);
    return has;
}

bool unique_claim(struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE])
{
    lock(u);
    bool is_new = images_of(u, hash) == 0;
    if (is_new)
        change_one(u, hash, 1);
    unlock(u);
    return is_new;
}

void unique_replace(struct unique *u, const uint8_t *before, const uint8_t after[CONTENT_HASH_SIZE])
{
    lock(u);
    change_one(u, after, 1); /* first: they may be the same */
    if (before)
        change_one(u, before, -1);
    unlock(u);
}

void unique_leave_out(struct unique *u, const uint8_t hash[CONTENT_HASH_SIZE])
{
    lock(u);
    path_set_add(&u->left_out, hash);
    u->orphans += images_of(u, hash) == 0;
    unlock(u);
}

int64_t unique_orphans(struct unique *u)
{
    lock(u);
    int64_t orphans = u->orphans;
    unlock(u);
    return orphans;
}
