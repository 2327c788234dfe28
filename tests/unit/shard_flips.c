/* No changed byte of a store ends a program by a signal. FLIPS=all changes every byte of a small
 * store, and more of a larger one. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/support/shard_image.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

static void count_problem(void *arg, const char *text)
{
    ++*(int *)arg;
}

static void ignore_hash(void *arg, const uint8_t *hash)
{
}

/* What programs do with a store, whatever its state. Returns whether it may have been changed. */
static bool use_store(const char *name)
{
    struct error e;
    struct shard_writer *w;
    struct shard_writer_options o = {0};
    int problems = 0;
    int64_t records;
    shards_read_all(name, &e);
    shards_hashes(name);
    shard_store_verify(shards_folder(name), count_problem, NULL, &problems, &records);
    if (shard_writer_open(&w, shards_folder(name), &shards_info, &o, &e) != 0)
        return false;
    shard_writer_each_hash(w, ignore_hash, NULL, &e);
    shards_put(w, 2, 2, 1, &e); /* replaces, and in the smallest store also adds */
    shard_writer_close(w);
    return true;
}

/* Offsets whose bytes are changed, and to what. */
struct flips {
    size_t *at;
    uint8_t *mask;
    size_t count, capacity;
};

static void add_flip(struct flips *f, size_t at, uint8_t mask)
{
    if (f->count == f->capacity) {
        f->capacity = 2 * f->capacity + 1024;
        f->at = xrealloc(f->at, f->capacity * sizeof *f->at);
        f->mask = xrealloc(f->mask, f->capacity);
    }
    f->at[f->count] = at;
    f->mask[f->count++] = mask;
}

static void add_flips(struct flips *f, const struct shard_image *m, size_t at, size_t n)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x10, 0x02};
    for (size_t i = at; i < at + n && i < m->size; i++)
        add_flip(f, i, masks[i % 5]);
}

/* Of every tree page its header, and every nth node with its offset; every nth overflow page's
 * header; unless n > 1, the meta pages; and every stride-th byte. */
static void choose_flips(struct flips *f, const struct shard_image *m, size_t n, size_t stride)
{
    for (size_t page = 0; page < m->size; page += IMAGE_PAGE) {
        unsigned kind = (unsigned)image_get(m, page + PAGE_FLAGS, 2);
        bool tree = page >= 2 * IMAGE_PAGE && (kind == 1 || kind == 2);
        if (page < 2 * IMAGE_PAGE && n == 1)
            add_flips(f, m, page, META_TRANSACTION + 8);
        else if (tree || page / IMAGE_PAGE % n == 0)
            add_flips(f, m, page, NODE_OFFSETS);
        for (int k = 0; tree && k < image_nodes(m, page); k += (int)n) {
            add_flips(f, m, page + NODE_OFFSETS + 2 * (size_t)k, 2);
            add_flips(f, m, image_node(m, page, k), NODE_HEADER + 16);
        }
    }
    for (size_t at = 0; at < m->size; at += stride)
        add_flips(f, m, at, 1);
}

/* Applies flips from `first` on in a child until one ends it. Returns that one's number. */
static size_t run_flips(struct shard_image *m, const struct flips *f, size_t first, size_t *done,
                        int *status)
{
    *done = first;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        shard_image_restore(m);
        shard_image_save(m);
        for (; *done < f->count; ++*done) {
            shard_image_save_byte(m, f->at[*done], m->good[f->at[*done]] ^ f->mask[*done]);
            if (use_store(m->store))
                shard_image_save(m);
            else
                shard_image_save_byte(m, f->at[*done], m->good[f->at[*done]]);
        }
        _exit(0);
    }
    CHECK(waitpid(child, status, 0) == child);
    return *done;
}

static void test_flips(const char *name, int records, int batch, size_t node_stride, size_t stride)
{
    struct shard_image m;
    struct flips f = {0};
    CHECK(shards_write(name, records, batch, 0, 0));
    shard_image_read(&m, name);
    choose_flips(&f, &m, node_stride, stride);
    size_t *done =
        mmap(NULL, sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(done != MAP_FAILED);
    int signals = 0, ended = 0, status;
    for (size_t i = 0; i < f.count; i++) {
        i = run_flips(&m, &f, i, done, &status);
        if (i < f.count && WIFSIGNALED(status)) {
            signals++;
            tap_diag("byte %zu ^ %#x: signal %d", f.at[i], f.mask[i], WTERMSIG(status));
        } else if (i < f.count) {
            ended++;
        }
    }
    tap_ok(signals == 0,
           "%zu changed bytes of a store of %d records end no program by a signal "
           "(%d by an assertion of LMDB)",
           f.count, records, ended);
    munmap(done, sizeof *done);
    free(f.at);
    free(f.mask);
    shard_image_release(&m);
}

int main(void)
{
    const char *all = getenv("FLIPS");
    bool every = all && strcmp(all, "all") == 0;
    test_flips("small", 3, 2, 1, every ? 1 : 97);
    test_flips("large", 170, 50, every ? 1 : 23, every ? 997 : 49999);
    return tap_done();
}
