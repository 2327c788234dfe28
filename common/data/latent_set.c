#include "common/data/latent_set.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/base/message.h"
#include "common/base/text.h"
#include "common/data/latent_set_internal.h"

struct source {
    char *folder;
    struct shard_store *store;
    int64_t first; /* number of its first record */
};

struct latent_set {
    struct source *sources;
    int count;
    int64_t records;
    int64_t *kept; /* [records]: their numbers in the stores; NULL: all records of the stores */
    struct order order;
    struct unreadable *unreadable;
};

static int open_sources(struct latent_set *d, char *const *folders, int count, struct error *e)
{
    d->sources = xcalloc((size_t)count, sizeof *d->sources);
    for (int i = 0; i < count; i++) {
        struct source *s = &d->sources[i];
        if (shard_store_open(&s->store, folders[i], e) != 0)
            return error_prefix(e, "'%s'", folders[i]);
        d->count++;
        s->folder = xstrdup(folders[i]);
        s->first = d->records;
        d->records += shard_store_count(s->store);
        if (shard_info_check(shard_store_info(s->store), latent_set_info(d), e) != 0)
            return error_prefix(e, "'%s' differs from '%s'", folders[i], folders[0]);
    }
    return 0;
}

/* Marks the records whose paths are in a list. */
struct marking {
    const struct path_list *list;
    struct path_set met; /* paths of the list that are those of records */
    bool *marked;
    int64_t first; /* of the store */
};

static void mark(void *arg, const struct shard_path *path)
{
    struct marking *m = arg;
    if (!path_set_has(&m->list->set, path->key))
        return;
    m->marked[m->first + path->index] = true;
    path_set_add(&m->met, path->key);
}

static int mark_all(const struct latent_set *d, const struct path_list *list, bool *marked,
                    struct error *e)
{
    struct marking m = {.list = list, .marked = marked};
    int status = 0;
    path_set_init(&m.met);
    for (int i = 0; i < d->count && status == 0; i++) {
        m.first = d->sources[i].first;
        status = shard_store_each_path(d->sources[i].store, mark, &m, e);
        if (status != 0)
            error_prefix(e, "'%s'", d->sources[i].folder);
    }
    int64_t unmet = status == 0 ? path_list_unmet(list, &m.met) : 0;
    if (unmet > 0)
        warn("%" PRId64 " of %" PRId64 " path%s of '%s' match%s no record", unmet, list->count,
             plural(list->count), list->file, unmet == 1 ? "es" : "");
    path_set_release(&m.met);
    return status;
}

/* Leaves out what the options say. */
static int choose(struct latent_set *d, const struct latent_set_options *o, struct error *e)
{
    if ((!o->only && !o->except) || d->records == 0)
        return 0;
    size_t all = (size_t)d->records;
    bool *only = xcalloc(all + 1, sizeof *only), *except = xcalloc(all + 1, sizeof *except);
    int status = o->only ? mark_all(d, o->only, only, e) : 0;
    if (status == 0 && o->except)
        status = mark_all(d, o->except, except, e);
    d->kept = xmalloc((all + 1) * sizeof *d->kept);
    d->records = 0;
    for (size_t i = 0; i < all; i++)
        if ((!o->only || only[i]) && !except[i])
            d->kept[d->records++] = (int64_t)i;
    free(only);
    free(except);
    return status;
}

static int check_counts(const struct latent_set *d, const struct latent_set_options *o,
                        struct error *e)
{
    const struct path_list *list = o->only ? o->only : o->except;
    if (d->records == 0 && !d->kept)
        return error_set(e, "the shard stores contain no records");
    if (d->records == 0 && o->only && o->except)
        return error_set(e, "--only '%s' and --except '%s' leave no record", o->only->file,
                         o->except->file);
    if (d->records == 0)
        return error_set(e, "--%s '%s' leaves no record", o->only ? "only" : "except", list->file);
    if (o->holdout >= d->records)
        return error_set(e, "cannot hold out %" PRId64 " of %" PRId64 " record%s", o->holdout,
                         d->records, plural(d->records));
    return 0;
}

int latent_set_open(struct latent_set **out, const char *const *folders, int count,
                    const struct latent_set_options *o, struct error *e)
{
    CHECK(count > 0 && o->holdout >= 0);
    struct shard_folders stores;
    if (shard_folders_expand(&stores, folders, count, SHARD_PARTS_FILLED, e) != 0)
        return -1;
    struct latent_set *d = xcalloc(1, sizeof *d);
    int status = shard_folders_check_distinct(&stores, e);
    if (status == 0)
        status = open_sources(d, stores.items, stores.count, e);
    shard_folders_release(&stores);
    if (status == 0)
        status = choose(d, o, e);
    if (status == 0)
        status = check_counts(d, o, e);
    if (status != 0) {
        latent_set_close(d);
        return -1;
    }
    order_init(&d->order, d->records, o->holdout);
    d->unreadable = unreadable_new(d->records);
    *out = d;
    return 0;
}

void latent_set_close(struct latent_set *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->count; i++) {
        shard_store_close(d->sources[i].store);
        free(d->sources[i].folder);
    }
    free(d->sources);
    free(d->kept);
    order_release(&d->order);
    unreadable_free(d->unreadable);
    free(d);
}

const struct shard_info *latent_set_info(const struct latent_set *d)
{
    return shard_store_info(d->sources[0].store);
}

struct latent_statistics latent_set_statistics(const struct latent_set *d)
{
    struct latent_statistics all = {0};
    for (int i = 0; i < d->count; i++) {
        struct latent_statistics one = shard_store_statistics(d->sources[i].store);
        latent_statistics_merge(&all, &one);
    }
    return all;
}

bool latent_set_finished(const struct latent_set *d)
{
    for (int i = 0; i < d->count; i++)
        if (!shard_store_finished(d->sources[i].store))
            return false;
    return true;
}

int64_t latent_set_training_count(const struct latent_set *d)
{
    return order_training_count(&d->order);
}

int64_t latent_set_holdout_count(const struct latent_set *d)
{
    return d->order.holdout;
}

void latent_set_hash(char hex[33], const struct latent_set *d)
{
    XXH3_state_t *state = xallocated(XXH3_createState());
    XXH3_128bits_reset(state);
    for (int i = 0; i < d->count; i++) {
        const struct shard_info *info = shard_store_info(d->sources[i].store);
        struct latent_statistics s = shard_store_statistics(d->sources[i].store);
        char *text = xasprintf(
            "%s %s %d %d %d %d %s %d %d %s %" PRId64 " %a %a\n", info->autoencoder.hash,
            info->cloob.hash, info->latent_channels, info->latent_height, info->latent_width,
            info->embed_size, dtype_name(info->embed_dtype), info->image_height, info->image_width,
            info->preprocessing, shard_store_count(d->sources[i].store), s.mean, s.mean_square);
        XXH3_128bits_update(state, text, strlen(text));
        free(text);
    }
    if (d->kept)
        XXH3_128bits_update(state, d->kept, (size_t)d->records * sizeof *d->kept);
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
}

const struct order *latent_set_order(const struct latent_set *d)
{
    return &d->order;
}

struct unreadable *latent_set_unreadable(const struct latent_set *d)
{
    return d->unreadable;
}

int64_t latent_set_record_at(const struct latent_set *d, uint64_t seed, int64_t epoch,
                             int64_t place)
{
    return order_record_at(&d->order, seed, epoch, place);
}

/* The store of a record; *index: in it. */
static const struct source *source_of(const struct latent_set *d, int64_t record, int64_t *index)
{
    CHECK(record >= 0 && record < d->records);
    if (d->kept)
        record = d->kept[record];
    int i = d->count - 1;
    while (d->sources[i].first > record)
        i--;
    *index = record - d->sources[i].first;
    return &d->sources[i];
}

static int read_record(struct latent_set *d, int64_t record, struct shard_record *r,
                       struct error *e)
{
    int64_t index;
    const struct source *s = source_of(d, record, &index);
    int status = shard_store_read(s->store, index, r, e);
    if (status != 0)
        error_prefix(e, "'%s'", s->folder);
    return status;
}

int latent_set_path(struct latent_set *d, int64_t record, char **path, struct error *e)
{
    struct shard_record r;
    shard_record_init(&r);
    read_record(d, record, &r, e);
    int status = r.path ? 0 : -1;
    if (r.path)
        *path = xstrdup(r.path);
    shard_record_release(&r);
    return status;
}

char *latent_set_describe(struct latent_set *d, int64_t record)
{
    int64_t index, within;
    const struct source *s = source_of(d, record, &index);
    int shard = shard_store_locate(s->store, index, &within);
    char *path = NULL;
    if (latent_set_path(d, record, &path, NULL) != 0)
        path = NULL;
    char *text = xasprintf("%s/%s, index %" PRId64 "%s%s%s", s->folder,
                           shard_store_shard(s->store, shard).name, within, path ? ", '" : "",
                           path ? path : "", path ? "'" : "");
    free(path);
    return text;
}

/* Reads a record; the user is told of a damaged one. */
static int read_reporting(struct latent_set *d, int64_t record, struct shard_record *r,
                          struct error *e)
{
    struct error why;
    if (unreadable_has(d->unreadable, record))
        return SHARD_RECORD_DAMAGED;
    int status = read_record(d, record, r, &why);
    if (status == SHARD_RECORD_DAMAGED && unreadable_add(d->unreadable, record))
        warn("damaged record, skipping it: %s", why.text);
    return status == 0 || status == SHARD_RECORD_DAMAGED ? status : error_set(e, "%s", why.text);
}

int latent_set_read(struct latent_set *d, int64_t record, struct shard_record *r, float *moments,
                    float *embed, struct error *e)
{
    const struct shard_info *info = latent_set_info(d);
    int status = latent_set_read_embed(d, record, r, embed, e);
    if (status == 0)
        dtype_to_f32(moments, DTYPE_F16, r->moments, 2 * shard_latent_count(info));
    return status;
}

int latent_set_read_embed(struct latent_set *d, int64_t record, struct shard_record *r,
                          float *embed, struct error *e)
{
    const struct shard_info *info = latent_set_info(d);
    int status = read_reporting(d, record, r, e);
    if (status == 0)
        dtype_to_f32(embed, info->embed_dtype, r->embed, (size_t)info->embed_size);
    return status;
}

void holdout_batch_init(struct holdout_batch *h)
{
    *h = (struct holdout_batch){0};
}

void holdout_batch_release(struct holdout_batch *h)
{
    free(h->moments);
    free(h->embeds);
    free(h->samples);
    free(h->damaged);
    holdout_batch_init(h);
}

int holdout_batch_read(struct holdout_batch *h, struct latent_set *d, int64_t first, int64_t n,
                       struct error *e)
{
    CHECK(first >= 0 && n > 0 && first + n <= d->order.holdout);
    const struct shard_info *info = latent_set_info(d);
    size_t moments = 2 * shard_latent_count(info), embed = (size_t)info->embed_size;
    if (n > h->capacity) {
        holdout_batch_release(h);
        h->moments = xmalloc((size_t)n * moments * sizeof *h->moments);
        h->embeds = xmalloc((size_t)n * embed * sizeof *h->embeds);
        h->samples = xmalloc((size_t)n * sizeof *h->samples);
        h->damaged = xmalloc((size_t)n * sizeof *h->damaged);
        h->capacity = n;
    }
    struct shard_record r;
    shard_record_init(&r);
    int status = 0;
    for (int64_t i = 0; i < n && status == 0; i++) {
        int64_t record = order_holdout_at(&d->order, first + i);
        float *m = h->moments + (size_t)i * moments, *x = h->embeds + (size_t)i * embed;
        h->samples[i] = (uint64_t)record;
        status = latent_set_read(d, record, &r, m, x, e);
        h->damaged[i] = status == SHARD_RECORD_DAMAGED;
        if (!h->damaged[i])
            continue;
        unreadable_meet(d->unreadable, record);
        memset(m, 0, moments * sizeof *m);
        memset(x, 0, embed * sizeof *x);
        status = 0;
    }
    shard_record_release(&r);
    h->data = (struct unet_batch){.n = n,
                                  .height = info->latent_height,
                                  .width = info->latent_width,
                                  .moments = h->moments,
                                  .embeds = h->embeds,
                                  .samples = h->samples};
    return status;
}
