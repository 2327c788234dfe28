#include "formats/shards/embed_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/base/message.h"

#define ALIGNMENT 64

static const struct {
    const char *name;
    uint64_t magic;
} kinds[] = {
    [EMBED_CACHE_EMBEDDINGS] = {EMBED_CACHE_NAME, 0x31626d65646c6363u},     /* "ccldemb1" */
    [EMBED_CACHE_THUMBNAILS] = {THUMBNAIL_CACHE_NAME, 0x31626d74646c6363u}, /* "ccldtmb1" */
};

enum { FIXED = 4, PER_SHARD = 4 }; /* numbers of 8 bytes */

/* What a cache of the store as it is now begins with; malloc'ed. */
static uint8_t *make_head(size_t *size, const struct shard_store *s,
                          const struct embed_cache_rows *rows)
{
    int shards = shard_store_shards(s);
    size_t numbers = FIXED + PER_SHARD * (size_t)shards;
    *size = (numbers * sizeof(uint64_t) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    uint64_t *head = xcalloc(1, *size), *at = head;
    *at++ = kinds[rows->kind].magic;
    *at++ = (uint64_t)rows->width;
    *at++ = (uint64_t)shard_store_count(s);
    *at++ = (uint64_t)shards;
    for (int i = 0; i < shards; i++) {
        struct shard_summary x = shard_store_shard(s, i);
        *at++ = x.bytes;
        *at++ = (uint64_t)x.modified_ns;
        *at++ = x.transaction;
        *at++ = (uint64_t)x.count;
    }
    return (uint8_t *)head;
}

static int64_t blocks_of(int64_t count)
{
    return (count + EMBED_CACHE_BLOCK - 1) / EMBED_CACHE_BLOCK;
}

static uint64_t sum_of_sums(const void *sums, int64_t count, const uint8_t *head, size_t size)
{
    return XXH3_64bits_withSeed(sums, (size_t)blocks_of(count) * sizeof(uint64_t),
                                XXH3_64bits(head, size));
}

/* Sets rows and sums if the file is a cache with this beginning. */
static int parse(struct embed_cache *c, const uint8_t *head, size_t head_size, struct error *e)
{
    uint64_t sum;
    size_t rows = (size_t)(c->count * c->width) * sizeof *c->rows;
    size_t sums = (size_t)blocks_of(c->count) * sizeof sum;
    const uint8_t *data = c->file.data;
    if (c->file.size < sizeof(uint64_t) || memcmp(data, head, sizeof(uint64_t)) != 0)
        return error_set(e, "it is not a cache of this kind");
    if (c->file.size < head_size || memcmp(data, head, head_size) != 0)
        return error_set(e, "the store has changed, or it is of another one");
    if (c->file.size != head_size + rows + sums + sizeof sum)
        return error_set(e, "it is damaged: its size is wrong");
    c->rows = (const float *)(data + head_size);
    c->sums = data + head_size + rows;
    memcpy(&sum, data + head_size + rows + sums, sizeof sum);
    if (sum != sum_of_sums(c->sums, c->count, head, head_size))
        return error_set(e, "it is damaged: its checksum is wrong");
    return 0;
}

const char *embed_cache_name(enum embed_cache_kind kind)
{
    return kinds[kind].name;
}

int embed_cache_open(struct embed_cache *c, const char *folder, const struct shard_store *s,
                     const struct embed_cache_rows *rows, struct error *e)
{
    char *path = path_join(folder, kinds[rows->kind].name);
    int status = -1;
    *c = (struct embed_cache){.count = shard_store_count(s), .width = rows->width};
    error_set(e, "%s", "");
    if (access(path, F_OK) == 0 && file_map(&c->file, path, e) == 0) {
        size_t head_size;
        uint8_t *head = make_head(&head_size, s, rows);
        status = parse(c, head, head_size, e);
        free(head);
    }
    free(path);
    if (status != 0)
        embed_cache_close(c);
    return status;
}

static uint64_t sum_of_block(const float *rows, int64_t width, int64_t n)
{
    return XXH3_64bits(rows, (size_t)(n * width) * sizeof *rows);
}

static int64_t rows_in_block(int64_t count, int64_t block)
{
    int64_t left = count - block * EMBED_CACHE_BLOCK;
    return left < EMBED_CACHE_BLOCK ? left : EMBED_CACHE_BLOCK;
}

bool embed_cache_check(const struct embed_cache *c, int64_t block)
{
    const float *rows = c->rows + block * EMBED_CACHE_BLOCK * c->width;
    uint64_t sum;
    memcpy(&sum, c->sums + (size_t)block * sizeof sum, sizeof sum);
    return sum_of_block(rows, c->width, rows_in_block(c->count, block)) == sum;
}

void embed_cache_close(struct embed_cache *c)
{
    file_unmap(&c->file);
    *c = (struct embed_cache){0};
}

void embed_cache_remove(const char *folder, enum embed_cache_kind kind)
{
    char *path = path_join(folder, kinds[kind].name);
    unlink(path);
    free(path);
}

void embed_caches_remove(const char *folder)
{
    embed_cache_remove(folder, EMBED_CACHE_EMBEDDINGS);
    embed_cache_remove(folder, EMBED_CACHE_THUMBNAILS);
}

/* Whether this is the temporary file of a cache. */
static bool is_temporary(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].name);
        if (strncmp(name, kinds[i].name, length) == 0 && name[length] == '.' &&
            strlen(name) == length + 1 + ATOMIC_FILE_SUFFIX)
            return true;
    }
    return false;
}

void embed_cache_clean(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d)
        return;
    for (struct dirent *entry; (entry = readdir(d));) {
        if (!is_temporary(entry->d_name))
            continue;
        int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK; /* NFS locks no file to read */
        int fd = openat(dirfd(d), entry->d_name, flags);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(d), entry->d_name, 0);
        if (fd >= 0)
            close(fd);
    }
    closedir(d);
}

/* Fails if another program took the file for one that was left behind, before it was locked. */
static int lock_temporary(int fd, struct error *e)
{
    struct stat st;
    bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    return locked && fstat(fd, &st) == 0 && st.st_nlink > 0
               ? 0
               : error_set(e, "another program has removed it");
}

int embed_cache_create(struct embed_cache_writer *w, const char *folder,
                       const struct shard_store *s, const struct embed_cache_rows *rows,
                       struct error *e)
{
    char *path = path_join(folder, kinds[rows->kind].name);
    *w = (struct embed_cache_writer){
        .of = *rows, .count = shard_store_count(s), .width = rows->width};
    embed_cache_clean(folder);
    int status = atomic_file_open(&w->file, path, e);
    free(path);
    if (status != 0)
        return -1;
    w->head = make_head(&w->head_size, s, rows);
    w->sums = xcalloc((size_t)blocks_of(w->count) + 1, sizeof *w->sums);
    if (lock_temporary(w->file.fd, e) == 0 && write_all(w->file.fd, w->head, w->head_size, e) == 0)
        return 0;
    embed_cache_abandon(w);
    return -1;
}

int embed_cache_append(struct embed_cache_writer *w, const float *rows, int64_t n, struct error *e)
{
    CHECK(w->written % EMBED_CACHE_BLOCK == 0 && w->written + n <= w->count);
    for (int64_t i = 0; i < n; i += EMBED_CACHE_BLOCK) {
        int64_t left = n - i < EMBED_CACHE_BLOCK ? n - i : EMBED_CACHE_BLOCK;
        w->sums[(w->written + i) / EMBED_CACHE_BLOCK] =
            sum_of_block(rows + i * w->width, w->width, left);
    }
    w->written += n;
    return write_all(w->file.fd, rows, (size_t)(n * w->width) * sizeof *rows, e);
}

static void release(struct embed_cache_writer *w)
{
    free(w->head);
    free(w->sums);
    w->head = NULL;
    w->sums = NULL;
}

int embed_cache_finish(struct embed_cache_writer *w, const struct shard_store *s, struct error *e)
{
    size_t size;
    uint8_t *head = make_head(&size, s, &w->of);
    bool same = size == w->head_size && memcmp(head, w->head, size) == 0;
    free(head);
    CHECK(w->written == w->count);
    uint64_t sum = sum_of_sums(w->sums, w->count, w->head, w->head_size);
    int status = same ? 0 : error_set(e, "the store has been written to in the meantime");
    if (status == 0)
        status = write_all(w->file.fd, w->sums, (size_t)blocks_of(w->count) * sizeof *w->sums, e);
    if (status == 0)
        status = write_all(w->file.fd, &sum, sizeof sum, e);
    if (status != 0) {
        embed_cache_abandon(w);
        return -1;
    }
    release(w);
    return atomic_file_commit(&w->file, e);
}

void embed_cache_abandon(struct embed_cache_writer *w)
{
    atomic_file_abandon(&w->file);
    release(w);
}
