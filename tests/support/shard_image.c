#include "tests/support/shard_image.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "tests/support/shards.h"

uint64_t image_get(const struct shard_image *m, size_t at, int bytes)
{
    uint64_t v = 0;
    memcpy(&v, m->data + at, (size_t)bytes);
    return v;
}

void image_put(struct shard_image *m, size_t at, int bytes, uint64_t v)
{
    CHECK(at + (size_t)bytes <= m->size);
    memcpy(m->data + at, &v, (size_t)bytes);
}

int image_nodes(const struct shard_image *m, size_t page)
{
    return (int)(image_get(m, page + PAGE_LOWER, 2) - NODE_OFFSETS) / 2;
}

size_t image_node(const struct shard_image *m, size_t page, int i)
{
    return page + image_get(m, page + NODE_OFFSETS + 2 * (size_t)i, 2);
}

size_t image_node_data(const struct shard_image *m, size_t page, int i)
{
    size_t at = image_node(m, page, i);
    return at + NODE_HEADER + image_get(m, at + NODE_KEY_SIZE, 2);
}

size_t image_root(const struct shard_image *m, size_t database)
{
    return image_get(m, database + DATABASE_ROOT, 8) * IMAGE_PAGE;
}

size_t image_child(const struct shard_image *m, size_t branch, int i)
{
    return (image_get(m, image_node(m, branch, i), 4) |
            image_get(m, image_node(m, branch, i) + NODE_FLAGS, 2) << 32) *
           IMAGE_PAGE;
}

static char *shard_file(const char *name)
{
    return path_join(shards_folder(name), "00000.mdb");
}

void shard_image_save(const struct shard_image *m)
{
    char *file = shard_file(m->store);
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    struct error e;
    CHECK(fd >= 0 && write_all(fd, m->data, m->size, &e) == 0 && close(fd) == 0);
    free(file);
}

void shard_image_read(struct shard_image *m, const char *store)
{
    struct error e;
    char *file = shard_file(store);
    *m = (struct shard_image){.store = store};
    CHECK(file_read(&m->data, &m->size, file, 1 << 30, &e) == 0);
    free(file);
    m->good = xmalloc(m->size);
    memcpy(m->good, m->data, m->size);
    m->meta = image_get(m, META_TRANSACTION, 8) > image_get(m, IMAGE_PAGE + META_TRANSACTION, 8)
                  ? 0
                  : IMAGE_PAGE;
    size_t top = image_root(m, m->meta + META_MAIN);
    for (int i = 0; i < image_nodes(m, top); i++) {
        const void *key = m->data + image_node(m, top, i) + NODE_HEADER;
        size_t *record = !memcmp(key, "samples", 7) ? &m->samples
                         : !memcmp(key, "paths", 5) ? &m->paths
                                                    : NULL;
        if (record)
            *record = image_node_data(m, top, i);
    }
    CHECK(m->samples && m->paths);
}

void shard_image_restore(struct shard_image *m)
{
    memcpy(m->data, m->good, m->size);
}

void shard_image_release(struct shard_image *m)
{
    free(m->data);
    free(m->good);
}

void shard_image_save_byte(const struct shard_image *m, size_t at, uint8_t value)
{
    char *file = shard_file(m->store);
    int fd = open(file, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, &value, 1, (off_t)at) == 1 && close(fd) == 0);
    free(file);
}
