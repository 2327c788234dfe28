/* Files of LMDB. What passes the checks of pages must not make LMDB fail, whether it reads or
 * writes; a failed assertion of LMDB would end the harness. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/lmdb_pages.h"
#include "formats/shards/shard_internal.h"
#include "tests/fuzz/support/fuzz.h"

static char folder[] = "/dev/shm/ccld-fuzz-XXXXXX", *file, *lock_file;

static void remove_files(void)
{
    unlink(file);
    unlink(lock_file);
    rmdir(folder);
}

static void begin(const uint8_t *data, size_t size)
{
    struct error e;
    if (!file) {
        CHECK(mkdtemp(folder));
        file = path_join(folder, "00000.mdb");
        lock_file = path_join(folder, "00000.mdb-lock");
        atexit(remove_files);
    }
    unlink(lock_file);
    CHECK(file_write(file, data, size, &e) == 0);
}

/* Sets *info if the store can be opened. */
static bool read_all(struct shard_info *info)
{
    struct shard_store *s;
    struct shard_record r;
    struct error e = {""};
    if (shard_store_open(&s, folder, &e) != 0) {
        CHECK(e.text[0]);
        return false;
    }
    *info = *shard_store_info(s);
    shard_record_init(&r);
    for (int64_t i = 0; i < shard_store_count(s); i++)
        CHECK(shard_store_read(s, i, &r, &e) == 0 || e.text[0]);
    shard_record_release(&r);
    shard_store_close(s);
    return true;
}

/* A new record, and one in place of the first. */
static void write_two(const struct shard_info *info)
{
    size_t latents = 2 * shard_latent_count(info);
    if (latents > 1 << 16 || info->embed_size > 1 << 12)
        return;
    struct shard_writer *w;
    struct shard_writer_options o = {0};
    struct error e = {""};
    if (shard_writer_open(&w, folder, info, &o, &e) != 0)
        return;
    float *moments = xcalloc(latents, sizeof *moments);
    float *embed = xcalloc((size_t)info->embed_size, sizeof *embed);
    embed[0] = 1;
    struct shard_item items[2] = {{.path = "new.jpg", .size = 1, .width = 1, .height = 1},
                                  {.path = "photos/0.jpg", .size = 1, .width = 1, .height = 1}};
    for (int i = 0; i < 2; i++) {
        items[i].moments = moments;
        items[i].embed = embed;
    }
    CHECK(shard_writer_put(w, items, 2, &e) == 0 || e.text[0]);
    shard_writer_close(w);
    free(moments);
    free(embed);
}

static void ignore_problem(void *arg, const char *text)
{
    CHECK(text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shard_info info;
    int64_t records;
    begin(data, size);
    bool opened = read_all(&info);
    shard_store_verify(folder, ignore_problem, NULL, NULL, &records);
    if (opened)
        write_two(&info);
    return 0;
}

/* Where LMDB's structure is: the first bytes of pages, the offsets of nodes, the nodes' headers. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    size_t pages = size / PAGE_SIZE_MIN;
    if (pages < 3 || seed % 8 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    uint8_t *page = data + seed / 8 % pages * PAGE_SIZE_MIN;
    struct page_header h;
    memcpy(&h, page, sizeof h);
    size_t at = 0, room = sizeof h + (page < data + 2 * PAGE_SIZE_MIN ? sizeof(struct meta) : 16);
    unsigned nodes = h.lower > sizeof h ? (h.lower - (unsigned)sizeof h) / 2 : 0;
    if (seed / 1024 % 2 && nodes > 0 && nodes < PAGE_SIZE_MIN / 2) {
        uint16_t offset;
        memcpy(&offset, page + sizeof h + 2 * (seed / 2048 % nodes), sizeof offset);
        at = offset % PAGE_SIZE_MIN;
        room = 48;
    }
    room = room < PAGE_SIZE_MIN - at ? room : PAGE_SIZE_MIN - at;
    LLVMFuzzerMutate(page + at, room, room);
    return size;
}
