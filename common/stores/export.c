#include "common/stores/export.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/progress.h"
#include "formats/archives/tar_writer.h"
#include "formats/text/json.h"

#define NPY_ALIGNMENT 64

struct export
{
    const char *out;
    int64_t per_tar;
    struct export_summary *summary;
    struct atomic_file file; /* the tar being written */
    int64_t in_tar;          /* records in it; 0: none is open */
    struct progress *progress;
};

static int check_empty(const char *folder, struct error *e)
{
    if (make_directories(folder, e) != 0)
        return -1;
    DIR *d = opendir(folder);
    if (!d)
        return error_errno(e, "cannot read the folder");
    bool empty = true;
    for (struct dirent *entry; (entry = readdir(d));)
        empty &= !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
    closedir(d);
    return empty ? 0 : error_set(e, "the folder is not empty");
}

/* NumPy's format, version 1.0: numpy.lib.format. */
static int write_npy(struct export *x, const char *name, enum dtype type, const char *shape,
                     const void *data, size_t count, struct error *e)
{
    size_t bytes = count * dtype_size(type);
    char header[256];
    int n = snprintf(header, sizeof header,
                     "\x93NUMPY\x01%c%c%c{'descr': '<f%zu', 'fortran_order': False, 'shape': %s, }",
                     0, 0, 0, dtype_size(type), shape);
    CHECK(n > 0 && (size_t)n + NPY_ALIGNMENT < sizeof header);
    size_t length = ((size_t)n + 1 + NPY_ALIGNMENT - 1) / NPY_ALIGNMENT * NPY_ALIGNMENT;
    memset(header + n, ' ', length - (size_t)n - 1);
    header[length - 1] = '\n';
    header[8] = (char)((length - 10) & 255);
    header[9] = (char)((length - 10) >> 8);
    uint8_t *content = xmalloc(length + bytes);
    memcpy(content, header, length);
    memcpy(content + length, data, bytes);
    int status = tar_write_member(x->file.fd, name, content, length + bytes, e);
    free(content);
    return status;
}

static char *describe(const struct shard_record *r)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddItemToObject(root, "path", json_string(r->path));
    cJSON_AddNumberToObject(root, "width", r->width);
    cJSON_AddNumberToObject(root, "height", r->height);
    char *text = cJSON_PrintUnformatted(root);
    CHECK(text);
    cJSON_Delete(root);
    return text;
}

static int write_record(struct export *x, const struct shard_record *r, const struct shard_info *i,
                        int64_t number, struct error *e)
{
    char name[48], shape[64];
    int key = snprintf(name, sizeof name, "%09" PRId64, number);
    snprintf(shape, sizeof shape, "(%d, %d, %d)", 2 * i->latent_channels, i->latent_height,
             i->latent_width);
    strcpy(name + key, ".moments.npy");
    if (write_npy(x, name, DTYPE_F16, shape, r->moments, 2 * shard_latent_count(i), e) != 0)
        return -1;
    strcpy(name + key, ".embed.npy");
    snprintf(shape, sizeof shape, "(%d,)", i->embed_size);
    if (write_npy(x, name, i->embed_dtype, shape, r->embed, (size_t)i->embed_size, e) != 0)
        return -1;
    strcpy(name + key, ".json");
    char *text = describe(r);
    int status = tar_write_member(x->file.fd, name, text, strlen(text), e);
    cJSON_free(text);
    return status;
}

static int begin_tar(struct export *x, struct error *e)
{
    char name[24];
    snprintf(name, sizeof name, "%05d.tar", x->summary->tars);
    char *path = path_join(x->out, name);
    int status = atomic_file_open(&x->file, path, e);
    free(path);
    return status;
}

static int end_tar(struct export *x, int status, struct error *e)
{
    if (x->in_tar == 0)
        return status;
    if (status == 0)
        status = tar_write_end(x->file.fd, e);
    if (status != 0)
        atomic_file_abandon(&x->file);
    else
        status = atomic_file_commit(&x->file, e);
    x->summary->tars += status == 0;
    x->in_tar = 0;
    return status;
}

static int export_store(struct export *x, struct shard_store *s, int64_t first, struct error *e)
{
    struct shard_record r;
    int status = 0;
    shard_record_init(&r);
    for (int64_t i = 0; i < shard_store_count(s) && status == 0; i++) {
        struct error damage;
        if (shard_store_read(s, i, &r, &damage) != 0) {
            warn("leaving out record %" PRId64 ": %s", first + i, damage.text);
            x->summary->damaged++;
            continue;
        }
        if (x->in_tar == 0)
            status = begin_tar(x, e);
        if (status != 0)
            break;
        x->in_tar++;
        status = write_record(x, &r, shard_store_info(s), first + i, e);
        if (status != 0 || x->in_tar == x->per_tar)
            status = end_tar(x, status, e);
        x->summary->records += status == 0;
        progress_update(x->progress, x->summary->records, NULL);
    }
    shard_record_release(&r);
    return status;
}

int stores_export(const char *out, const struct shard_folders *stores, int64_t per_tar,
                  struct export_summary *summary, struct error *e)
{
    struct export x = {.out = out, .per_tar = per_tar, .summary = summary};
    *summary = (struct export_summary){0};
    if (check_empty(out, e) != 0)
        return -1;
    int64_t first = 0;
    int status = 0;
    x.progress = progress_start("exporting", "records", -1);
    for (int i = 0; i < stores->count && status == 0; i++) {
        struct shard_store *s;
        status = shard_store_open(&s, stores->items[i], e);
        if (status != 0) {
            error_prefix(e, "cannot read store '%s'", stores->items[i]);
            break;
        }
        status = export_store(&x, s, first, e);
        first += shard_store_count(s);
        shard_store_close(s);
    }
    status = end_tar(&x, status, e);
    progress_finish(x.progress);
    return status;
}
