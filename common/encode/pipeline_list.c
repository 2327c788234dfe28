/* The pipeline's first stage: lists files and asks the store which are already done. */
#include "common/encode/pipeline_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/shards/path_set.h"

static int64_t mtime_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* A file of the list on its way into a slot. */
struct listed {
    const struct image_entry *entry;
    const char *path;              /* its spelling in the store */
    char *dotted;                  /* another one, or NULL */
    int64_t size, mtime_ns;        /* of the file, or of the archive */
    struct shard_path_found found; /* what the store has */
    int status;
    struct error error; /* if status is not 0 */
    uint8_t *data;
    size_t data_size;
};

/* Waits for a free slot and fills it; takes f->data. Returns false if the pipeline is stopping
 * instead. */
static bool add_file(struct pipeline *p, struct listed *f)
{
    pthread_mutex_lock(&p->mutex);
    while (p->filled - p->taken == p->slot_count && !p->stop && !p->failed)
        pthread_cond_wait(&p->room, &p->mutex);
    bool taken = !p->stop && !p->failed;
    if (taken) {
        struct slot *s = &p->slots[p->filled % p->slot_count];
        s->path = xstrdup(f->path);
        s->found = f->entry->found;
        s->data = f->data;
        s->data_size = f->data_size;
        s->size = f->size;
        s->mtime_ns = f->mtime_ns;
        s->old = f->found;
        s->status = f->status;
        s->done = f->status != 0;
        if (f->status != 0)
            s->error = f->error;
        p->filled++;
        pthread_cond_signal(&p->work);
        if (f->status != 0)
            pthread_cond_signal(&p->ready);
    } else {
        free(f->data);
    }
    pthread_mutex_unlock(&p->mutex);
    return taken;
}

static int check_file(const char *path, struct stat *st, struct error *e)
{
    int status, tries = 0;
    do
        status = stat(path, st) != 0 ? read_failed(e, errno) : 0;
    while (read_again(status, &tries));
    if (status != 0) {
        *st = (struct stat){0};
        return status;
    }
    if (S_ISDIR(st->st_mode))
        return error_set(e, "is a directory (ccld-encode DIR encodes its files)");
    if (!S_ISREG(st->st_mode))
        return error_set(e, "not a regular file");
    if (st->st_size == 0)
        return error_set(e, "empty file");
    return 0;
}

static void count_one(struct pipeline *p, int64_t *counter)
{
    pthread_mutex_lock(&p->mutex);
    (*counter)++;
    pipeline_put_counts(p);
    pthread_mutex_unlock(&p->mutex);
}

/* What the store has of a file, by any spelling: before paths were normalized, stores kept them as
 * they were given. Sets f->path to the store's. */
static int look_up(struct pipeline *p, struct listed *f, struct error *e)
{
    const enum shard_path_state *state = &f->found.state;
    f->dotted = xasprintf("./%s", f->entry->path);
    const char *spellings[] = {f->entry->path, f->entry->given, f->dotted};
    int status = 0;
    for (int i = 0; i < 3 && status == 0 && *state == SHARD_PATH_NEW; i++) {
        if (i > 0 && strcmp(spellings[i], f->entry->path) == 0)
            continue;
        status = shard_writer_lookup(p->store, spellings[i], f->size, f->mtime_ns, &f->found, e);
        f->path = spellings[i];
    }
    if (status == 0 && *state == SHARD_PATH_NEW)
        f->path = f->entry->path;
    return status;
}

/* Whether the file is of this part of the list and has not been there before; counts it. A link is
 * only counted: its path may still be in the list, which names a file then. */
static bool is_wanted(struct pipeline *p, struct path_set *seen, const struct image_entry *entry)
{
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, entry->path);
    int parts = p->options->parts;
    bool ours = parts <= 1 || path_part(key, parts) == p->options->part;
    pthread_mutex_lock(&p->mutex);
    (*(ours ? &p->counts.listed : &p->counts.other_part))++;
    pthread_mutex_unlock(&p->mutex);
    if (ours && entry->link)
        pipeline_leave_out(p, &p->counts.links);
    if (!ours || entry->link)
        return false;
    bool added = path_set_add(seen, key);
    if (!added)
        count_one(p, &p->counts.repeated);
    return added;
}

/* Fills in the file's size and time and whether it can be read. */
static void examine(struct listed *f)
{
    struct stat st = {0};
    f->status = f->entry->status;
    f->error = f->entry->error;
    if (f->status == 0)
        f->status =
            check_file(f->entry->member ? f->entry->archive : f->entry->path, &st, &f->error);
    f->size = st.st_size;
    f->mtime_ns = mtime_ns(&st);
}

/* Adds a file that can be read unless the store has it. Returns as list_one. */
static int add_new(struct pipeline *p, struct listed *f, struct error *e)
{
    if (look_up(p, f, e) != 0)
        return -1;
    if (f->found.state == SHARD_PATH_DONE) {
        count_one(p, &p->counts.skipped);
        return 1;
    }
    bool is_image = true;
    if (f->entry->member && f->entry->found)
        f->status = image_source_is_image(p->files, f->entry, &is_image, &f->error);
    if (f->status == 0 && !is_image) {
        pipeline_leave_out(p, &p->counts.others);
        return 1;
    }
    if (f->entry->member && f->status == 0)
        f->status =
            image_source_read(p->files, &f->data, &f->data_size, IMAGE_MEMBER_LIMIT, &f->error);
    return add_file(p, f);
}

/* Handles one file of the list. Returns 1 to continue, 0 to stop, -1 on failure. */
static int list_one(struct pipeline *p, struct path_set *seen, const struct image_entry *entry,
                    struct error *e)
{
    if (!is_wanted(p, seen, entry))
        return 1;
    struct listed f = {.entry = entry, .path = entry->path};
    examine(&f);
    if (entry->unread)
        count_one(p, &p->counts.unread);
    int status = f.status != 0 ? add_file(p, &f) : add_new(p, &f, e);
    free(f.dotted);
    return status;
}

static void list_failed(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    p->counts.list_failed = true;
    pthread_mutex_unlock(&p->mutex);
}

static bool stopping(struct pipeline *p)
{
    pthread_mutex_lock(&p->mutex);
    bool stop = p->stop || p->failed;
    pthread_mutex_unlock(&p->mutex);
    return stop;
}

void *pipeline_list_stage(void *arg)
{
    struct pipeline *p = arg;
    struct path_set seen;
    struct error e;
    struct image_entry entry;
    int status = 1;
    path_set_init(&seen);
    while (status > 0 && !stopping(p)) {
        status = image_source_next(p->files, p->wake[0], &entry, &e);
        if (status < 0)
            list_failed(p);
        else if (status > 0)
            status = list_one(p, &seen, &entry, &e);
    }
    path_set_release(&seen);
    if (status < 0)
        pipeline_fail(p, &e);
    pthread_mutex_lock(&p->mutex);
    p->list_ended = true;
    pthread_cond_broadcast(&p->work);
    pthread_cond_broadcast(&p->ready);
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}
