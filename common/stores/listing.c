#include "common/stores/listing.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/escape.h"
#include "common/base/message.h"
#include "formats/text/json.h"

/* Hashes of a store's images, by record. */
struct hashes {
    uint8_t (*items)[CONTENT_HASH_SIZE];
    bool *known;
};

static void take_hash(void *arg, const struct shard_path *path)
{
    struct hashes *h = arg;
    h->known[path->index] = path->hash;
    if (path->hash)
        memcpy(h->items[path->index], path->hash, CONTENT_HASH_SIZE);
}

/* If the paths are damaged, no hash is known. */
static int hashes_read(struct hashes *h, struct shard_store *s, const char *folder)
{
    struct error e;
    size_t count = (size_t)shard_store_count(s) + 1;
    *h = (struct hashes){.items = xcalloc(count, sizeof *h->items),
                         .known = xcalloc(count, sizeof *h->known)};
    if (shard_store_each_path(s, take_hash, h, &e) == 0)
        return 0;
    warn("cannot read the hashes of store '%s': %s", folder, e.text);
    return 1;
}

static void hashes_release(struct hashes *h)
{
    free(h->items);
    free(h->known);
}

static void add_hash(cJSON *line, const uint8_t hash[CONTENT_HASH_SIZE])
{
    char text[2 * CONTENT_HASH_SIZE + 1];
    for (int i = 0; i < CONTENT_HASH_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    cJSON_AddStringToObject(line, "hash", text);
}

/* store: NULL if there is only one. r->path may be NULL if the record is damaged, and hash if it is
 * not known. */
static void print_json(const char *store, int64_t index, const struct shard_record *r, bool damaged,
                       const uint8_t *hash)
{
    cJSON *line = cJSON_CreateObject();
    if (store)
        cJSON_AddItemToObject(line, "store", json_string(store));
    cJSON_AddNumberToObject(line, "index", (double)index);
    if (r->path)
        cJSON_AddItemToObject(line, "path", json_string(r->path));
    if (damaged) {
        cJSON_AddTrueToObject(line, "damaged");
    } else {
        cJSON_AddNumberToObject(line, "width", r->width);
        cJSON_AddNumberToObject(line, "height", r->height);
    }
    if (hash)
        add_hash(line, hash);
    char *text = cJSON_PrintUnformatted(line);
    CHECK(text);
    puts(text);
    cJSON_free(text);
    cJSON_Delete(line);
}

static void print_text(const char *text, bool null)
{
    if (null)
        fputs(text, stdout);
    else
        escape_print(stdout, text);
}

static void print_record(const char *store, int64_t index, const struct shard_record *r,
                         bool damaged, bool null)
{
    if (store) {
        print_text(store, null);
        putchar('\t');
    }
    printf("%" PRId64 "\t", index);
    print_text(r->path, null);
    if (damaged)
        printf("\tdamaged");
    else
        printf("\t%dx%d", r->width, r->height);
    putchar(null ? '\0' : '\n');
}

int listing_print(struct shard_store *s, const char *folder, const struct listing_options *o)
{
    const char *store = o->store ? folder : NULL;
    struct shard_record r;
    struct hashes h = {0};
    struct error e;
    int status = o->json ? hashes_read(&h, s, folder) : 0;
    shard_record_init(&r);
    for (int64_t i = 0; i < shard_store_count(s) && !ferror(stdout); i++) {
        int read = shard_store_read(s, i, &r, &e);
        if (read != 0) {
            warn("cannot read record %" PRId64 " of store '%s': %s", i, folder, e.text);
            status = 1;
        }
        if (o->json)
            print_json(store, i, &r, read != 0, h.known[i] ? h.items[i] : NULL);
        else if (r.path)
            print_record(store, i, &r, read != 0, o->null);
    }
    shard_record_release(&r);
    hashes_release(&h);
    return status;
}
