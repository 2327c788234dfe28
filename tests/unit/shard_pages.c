/* Damaged LMDB files: each kind of fault in a page is named, and healthy files have none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/message.h"
#include "tests/support/shard_image.h"
#include "tests/support/shards.h"
#include "tests/support/tap.h"

static int open_to_write(const char *name, struct error *e)
{
    struct shard_writer *w;
    struct shard_writer_options o = {0};
    if (shard_writer_open(&w, shards_folder(name), &shards_info, &o, e) != 0)
        return -1;
    shard_writer_close(w);
    return 0;
}

/* Faults. Each changes the image. */

static void bad_magic(struct shard_image *m)
{
    image_put(m, META_MAGIC, 1, 0);
}

static void bad_version(struct shard_image *m)
{
    image_put(m, IMAGE_PAGE + META_VERSION, 1, 2);
}

static void bad_page_size(struct shard_image *m)
{
    image_put(m, META_FREE, 4, 6144);
}

static void two_page_sizes(struct shard_image *m)
{
    image_put(m, IMAGE_PAGE + META_FREE, 4, 8192);
}

static void meta_number(struct shard_image *m)
{
    image_put(m, IMAGE_PAGE + PAGE_NUMBER, 8, 7);
}

static void free_list_with_duplicates(struct shard_image *m)
{
    image_put(m, m->meta + META_FREE + DATABASE_FLAGS, 2, 12);
}

static void last_page_beyond_map(struct shard_image *m)
{
    image_put(m, m->meta + META_LAST, 8, image_get(m, m->meta + META_MAP_SIZE, 8) / IMAGE_PAGE);
}

static void last_page_beyond_file(struct shard_image *m)
{
    image_put(m, m->meta + META_LAST, 8, image_get(m, m->meta + META_LAST, 8) + 9);
}

static void last_page_too_low(struct shard_image *m)
{
    image_put(m, m->meta + META_LAST, 8, 3);
}

static void transaction_lost(struct shard_image *m)
{
    image_put(m, m->meta + META_TRANSACTION, 8, 0);
}

static void main_root(struct shard_image *m)
{
    image_put(m, m->meta + META_MAIN + DATABASE_ROOT, 8, 1ull << 40);
}

static void main_root_is_meta(struct shard_image *m)
{
    image_put(m, m->meta + META_MAIN + DATABASE_ROOT, 8, 1);
}

static void deep_tree(struct shard_image *m)
{
    image_put(m, m->samples + DATABASE_DEPTH, 2, 300);
}

static void shallow_tree(struct shard_image *m)
{
    image_put(m, m->samples + DATABASE_DEPTH, 2, 1);
}

static void entries(struct shard_image *m)
{
    image_put(m, m->samples + DATABASE_ENTRIES, 8,
              image_get(m, m->samples + DATABASE_ENTRIES, 8) + 1);
}

static void duplicates(struct shard_image *m)
{
    image_put(m, m->samples + DATABASE_FLAGS, 2, 4);
}

static void record_size(struct shard_image *m)
{
    size_t top = image_root(m, m->meta + META_MAIN);
    image_put(m, image_node(m, top, 0), 2, DATABASE_SIZE - 1); /* fills the same space */
}

static size_t samples_leaf(struct shard_image *m)
{
    return image_child(m, image_root(m, m->samples), 0);
}

static void child_beyond_last(struct shard_image *m)
{
    image_put(m, image_node(m, image_root(m, m->samples), 1) + NODE_FLAGS, 2, 1);
}

static void cycle(struct shard_image *m)
{
    image_put(m, image_node(m, image_root(m, m->samples), 1), 4,
              image_root(m, m->samples) / IMAGE_PAGE);
}

static void shared_child(struct shard_image *m)
{
    image_put(m, image_node(m, image_root(m, m->samples), 1), 4, samples_leaf(m) / IMAGE_PAGE);
}

static void other_number(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + PAGE_NUMBER, 8, 9999);
}

static void page_kind(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + PAGE_FLAGS, 2, 1);
}

static void fixed_size_duplicates(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + PAGE_FLAGS, 2, 0x22);
}

static void lower_bound(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + PAGE_LOWER, 2, 0);
}

static void no_nodes(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + PAGE_LOWER, 2, NODE_OFFSETS);
    image_put(m, samples_leaf(m) + PAGE_UPPER, 2, IMAGE_PAGE);
}

static void upper_bound(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + PAGE_UPPER, 2, IMAGE_PAGE + 2);
}

static void node_offset(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + NODE_OFFSETS, 2, 0xfff0 + 8);
}

static void node_below(struct shard_image *m)
{
    image_put(m, samples_leaf(m) + NODE_OFFSETS, 2, NODE_OFFSETS);
}

static void nodes_overlap(struct shard_image *m)
{
    size_t leaf = samples_leaf(m);
    image_put(m, leaf + NODE_OFFSETS, 2, image_get(m, leaf + NODE_OFFSETS + 2, 2));
}

static void key_size(struct shard_image *m)
{
    image_put(m, image_node(m, samples_leaf(m), 0) + NODE_KEY_SIZE, 2, 0x7fff);
}

static void short_key(struct shard_image *m)
{
    image_put(m, image_node(m, samples_leaf(m), 0) + NODE_KEY_SIZE, 2,
              7); /* fills the same space */
}

static void key_order(struct shard_image *m)
{
    image_put(m, image_node(m, samples_leaf(m), 0) + NODE_HEADER + 7, 1, 5);
}

static void key_beyond_parent(struct shard_image *m)
{
    size_t leaf = samples_leaf(m);
    image_put(m, image_node(m, leaf, image_nodes(m, leaf) - 1) + NODE_HEADER, 1, 9);
}

static void node_flags(struct shard_image *m)
{
    image_put(m, image_node(m, samples_leaf(m), 0) + NODE_FLAGS, 2, 5);
}

static void in_place_data(struct shard_image *m)
{
    image_put(m, image_node(m, samples_leaf(m), 0) + NODE_FLAGS, 2, 0);
}

static void data_size(struct shard_image *m)
{
    image_put(m, image_node(m, samples_leaf(m), 0) + 2, 2, 0xffff);
}

static void overflow_beyond_last(struct shard_image *m)
{
    image_put(m, image_node_data(m, samples_leaf(m), 0), 8, 1ull << 50);
}

static void overflow_shared(struct shard_image *m)
{
    size_t leaf = samples_leaf(m);
    image_put(m, image_node_data(m, leaf, 0), 8, image_get(m, image_node_data(m, leaf, 1), 8));
}

static size_t overflow(struct shard_image *m)
{
    return image_get(m, image_node_data(m, samples_leaf(m), 0), 8) * IMAGE_PAGE;
}

static void overflow_kind(struct shard_image *m)
{
    image_put(m, overflow(m) + PAGE_FLAGS, 2, 2);
}

static void overflow_count(struct shard_image *m)
{
    image_put(m, overflow(m) + PAGE_COUNT, 4, 1);
}

static void overflow_too_many(struct shard_image *m)
{
    image_put(m, overflow(m) + PAGE_COUNT, 4, 1000000);
}

static void paths_node(struct shard_image *m)
{
    image_put(m, image_child(m, image_root(m, m->paths), 0) + NODE_OFFSETS, 2, 0xffff);
}

/* The first value of the free list. */
static size_t free_pages(struct shard_image *m)
{
    return image_node_data(m, image_root(m, m->meta + META_FREE), 0);
}

static void free_list_too_long(struct shard_image *m)
{
    image_put(m, free_pages(m), 8, 100000);
}

static void free_page_beyond_last(struct shard_image *m)
{
    image_put(m, free_pages(m) + 8, 8, 1ull << 50);
}

static void free_page_in_use(struct shard_image *m)
{
    image_put(m, free_pages(m), 8, 1);
    image_put(m, free_pages(m) + 8, 8, image_root(m, m->samples) / IMAGE_PAGE);
}

static void free_transaction(struct shard_image *m)
{
    image_put(m, image_node(m, image_root(m, m->meta + META_FREE), 0) + NODE_HEADER, 8, 1ull << 40);
}

static const struct {
    void (*change)(struct shard_image *m);
    const char *expected;
    bool readable; /* readers do not use what is damaged */
} faults[] = {
    {bad_magic, "cannot open: not an LMDB file", false},
    {bad_version, "cannot open: LMDB file of an unsupported version", false},
    {bad_page_size, "meta page 0: invalid page size", false},
    {two_page_sizes, "meta page 1: invalid page size", false},
    {meta_number, "meta page 1: invalid page number", false},
    {free_list_with_duplicates, "invalid flags", false},
    {last_page_beyond_map, "invalid last page or map size", false},
    {last_page_beyond_file, "truncated", true},
    {last_page_too_low, "no such page", false},
    {transaction_lost, "meta pages: transactions", false},
    {main_root, "(main database): no such page", false},
    {main_root_is_meta, "page 1 (main database): no such page", false},
    {deep_tree, "samples: depth 300", false},
    {shallow_tree, "(samples): not a leaf page", false},
    {entries, "samples: 200 entries, but 201 are recorded", false},
    {duplicates, "invalid flags of a database", false},
    {record_size, "invalid size of a database record", false},
    {child_beyond_last, "(samples): no such page", false},
    {cycle, "(samples): used twice", false},
    {shared_child, "(samples): used twice", false},
    {other_number, "(samples): another page's number", false},
    {page_kind, "(samples): not a leaf page", false},
    {fixed_size_duplicates, "(samples): not a leaf page", false},
    {lower_bound, "(samples): invalid bounds", false},
    {no_nodes, "(samples): too few nodes", false},
    {upper_bound, "(samples): invalid bounds", false},
    {node_offset, "(samples): a node lies outside", false},
    {node_below, "(samples): a node lies outside", false},
    {nodes_overlap, "(samples): nodes overlap", false},
    {key_size, "(samples): a node reaches beyond the end", false},
    {short_key, "(samples): invalid size of a key", false},
    {key_order, "(samples): keys out of order", false},
    {key_beyond_parent, "(samples): keys out of order", false},
    {node_flags, "(samples): invalid flags of a node", false},
    {in_place_data, "(samples): a node reaches beyond the end", false},
    {data_size, "(samples): ", false},
    {overflow_beyond_last, "(samples): a node refers to no page", false},
    {overflow_shared, "(samples): used twice", false},
    {overflow_kind, "(samples): not an overflow page", true},
    {overflow_count, "(samples): fewer overflow pages than its data need", true},
    {overflow_too_many, "(samples): no such page", true},
    {paths_node, "(paths): a node lies outside", true},
    {free_list_too_long, "(free list): a free list longer than its value", true},
    {free_page_beyond_last, "(free list): invalid page number in a free list", true},
    {free_page_in_use, "(free list): used twice", true},
    {free_transaction, "(free list): ", true},
};

static void test_faults(void)
{
    struct shard_image m;
    CHECK(shards_write("faults", 200, 20, 0, 0));
    shard_image_read(&m, "faults");
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct error e = {""}, we = {""};
        const char *expected = faults[i].expected;
        shard_image_restore(&m);
        faults[i].change(&m);
        shard_image_save(&m);
        int reader = shards_read_all("faults", &e), writer = open_to_write("faults", &we);
        bool good = writer != 0 && strstr(we.text, expected) && (reader == 0) == faults[i].readable;
        if (!tap_ok(good, "writers%s refuse: %s", faults[i].readable ? "" : " and readers",
                    expected))
            tap_diag("reader %d '%s', writer %d '%s'", reader, e.text, writer, we.text);
        shards_ok_problem("faults", expected, expected);
    }
    shard_image_restore(&m);
    shard_image_save(&m);
    shards_ok_clean("faults", "the file as it was");
    shard_image_release(&m);
}

/* Records that are replaced and added again and again leave free lists of all kinds. */
static void test_used_stores(void)
{
    struct error e = {""};
    bool good = shards_write("used", 40, 40, 0, 0);
    for (int round = 1; good && round < 40; round++) {
        struct shard_writer *w = shards_open("used", 0, 0);
        good = w && shards_put(w, round * 7 % 40, 1 + round * 5 % 30, round, &e) == 0 &&
               shards_put(w, 40 + 31 * round, 31, 0, &e) == 0;
        shard_writer_close(w);
        good = good && shards_read_all("used", &e) == 0 && open_to_write("used", &e) == 0;
    }
    if (!tap_ok(good, "a store that has been changed often has no fault"))
        tap_diag("%s", e.text);
    shards_ok_clean("used", "after that");
}

/* Reads and checks a store while it is written. */
static void test_beside_writer(void)
{
    CHECK(shards_write("beside", 5, 5, 0, 0));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct error e;
        struct shard_writer *w = shards_open("beside", 0, 0);
        bool good = w != NULL;
        for (int i = 0; good && i < 300; i++)
            good = shards_put(w, i % 3 ? 5 + 2 * i : 0, 2, i, &e) == 0;
        shard_writer_close(w);
        _exit(good ? 0 : 1);
    }
    int status, rounds = 0;
    struct error e = {""};
    bool good = true;
    for (; good && waitpid(child, &status, WNOHANG) == 0; rounds++)
        good = shards_read_all("beside", &e) == 0;
    if (!good)
        waitpid(child, &status, 0);
    if (!tap_ok(good && status == 0, "a store has no fault while it is written (read %d times)",
                rounds))
        tap_diag("status %#x, %s", (unsigned)status, e.text);
}

int main(void)
{
    test_faults();
    test_used_stores();
    test_beside_writer();
    return tap_done();
}
