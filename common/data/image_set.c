#include "common/data/image_set.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/base/complaints.h"
#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/text.h"
#include "common/base/threads.h"
#include "formats/shards/path_set.h"

#define CAPTION_LIMIT 65536
#define LIST_LIMIT    ((size_t)1 << 40)

struct record {
    char *path, *caption;    /* caption: NULL without captions */
    _Atomic(uint8_t *) kept; /* prepared pixels, 8-bit planes of R, G, B; NULL: not kept */
};

struct image_set {
    struct image_set_options options;
    struct record *records;
    int64_t count, capacity;
    struct order order;
    struct unreadable *unreadable;
    atomic_size_t kept_bytes;
    struct complaints *complaints;
};

static void add_record(struct image_set *s, const char *path, const char *caption)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 1024;
        s->records = xrealloc(s->records, (size_t)s->capacity * sizeof *s->records);
    }
    struct record *r = &s->records[s->count++];
    r->path = xstrdup(path);
    r->caption = caption ? xstrdup(caption) : NULL;
    atomic_init(&r->kept, NULL);
}

/* Strips white space at both ends, changing text. NULL: nothing is left. */
static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = 0;
    return *text ? text : NULL;
}

/* *caption is malloc'ed. Fails if the file cannot be read (as file_read) or is empty. */
static int read_caption(char **caption, const char *path, struct error *e)
{
    uint8_t *text;
    size_t size;
    int status = file_read(&text, &size, path, CAPTION_LIMIT, e);
    if (status != 0)
        return status;
    bool marked = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0; /* byte order mark */
    char *trimmed = trim((char *)text + (marked ? 3 : 0));
    if (trimmed)
        *caption = xstrdup(trimmed);
    else
        status = error_set(e, "'%s' is empty", path);
    free(text);
    return status;
}

static int caption_beside(char **caption, const char *path, struct error *e)
{
    char *file = xasprintf("%s.txt", path);
    int status = read_caption(caption, file, e);
    if (status == -1 && !file_exists(file)) {
        const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
        int stem = dot && (!slash || dot > slash) ? (int)(dot - path) : (int)strlen(path);
        free(file);
        file = xasprintf("%.*s.txt", stem, path);
        status = read_caption(caption, file, e);
    }
    free(file);
    return status;
}

/* A list that is being read. */
struct listing {
    char *folder; /* of relative paths */
    struct path_set seen;
    int64_t repeated;
    char *repeated_path; /* the first one */
    struct complaints *complaints;
};

/* Removes repeated slashes and components "." of an absolute path. */
static void normalize(char *path)
{
    char *out = path;
    for (const char *at = path; *at;) {
        size_t length = 1 + strcspn(at + 1, "/");
        bool nothing = length == 1 || (length == 2 && at[1] == '.');
        if (!nothing || (!at[length] && out == path)) {
            memmove(out, at, length);
            out += length;
        }
        at += length;
    }
    *out = 0;
}

static bool is_repeated(struct listing *l, const char *path, const char *caption)
{
    char *text = xasprintf("%s\t%s", path, caption ? caption : "");
    uint8_t key[PATH_KEY_SIZE];
    path_key(key, text);
    free(text);
    if (path_set_add(&l->seen, key))
        return false;
    if (l->repeated++ == 0)
        l->repeated_path = xstrdup(path);
    return true;
}

/* Adds the record of one line of a list. Changes line. READ_SYSTEM_FAILED, or 0. */
static int add_line(struct image_set *s, struct listing *l, char *line, struct error *e)
{
    char *tab = s->options.captions ? strchr(line, '\t') : NULL;
    if (tab)
        *tab = 0;
    char *path = *line == '/' ? xstrdup(line) : path_join(l->folder, line);
    normalize(path);
    char *caption = NULL, *given = tab ? trim(tab + 1) : NULL;
    int status = 0;
    if (given)
        caption = xstrdup(given);
    else if (tab)
        status = error_set(e, "nothing after the tab");
    else if (s->options.captions)
        status = caption_beside(&caption, path, e);
    if (status == 0 && !is_repeated(l, path, caption))
        add_record(s, path, caption);
    if (status == READ_SYSTEM_FAILED)
        error_prefix(e, "cannot read the caption of '%s'", line);
    else if (status != 0)
        complain(l->complaints, "no caption", "no caption for '%s', skipping it: %s", line,
                 e->text);
    free(caption);
    free(path);
    return status == READ_SYSTEM_FAILED ? status : 0;
}

static struct image_set *set_new(const struct image_set_options *o)
{
    struct image_set *s = xcalloc(1, sizeof *s);
    s->options = *o;
    s->complaints = complaints_new();
    return s;
}

static int begin_order(struct image_set *s, struct error *e)
{
    int64_t holdout = s->options.holdout;
    if (s->count == 0)
        return error_set(e, "the list has no images");
    if (holdout >= s->count)
        return error_set(e, "cannot hold out %" PRId64 " of %" PRId64 " image%s", holdout, s->count,
                         plural(s->count));
    order_init(&s->order, s->count, holdout);
    s->unreadable = unreadable_new(s->count);
    return 0;
}

static int finish_open(struct image_set **out, struct image_set *s, int status, struct error *e)
{
    if (status != 0 || begin_order(s, e) != 0) {
        image_set_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

int image_set_open(struct image_set **out, struct path_source *list,
                   const struct image_set_options *o, struct error *e)
{
    struct listing l = {.folder = getcwd(NULL, 0)};
    if (!l.folder)
        return error_errno(e, "cannot get the current folder");
    l.complaints = complaints_new();
    struct image_set *s = set_new(o);
    const char *line;
    int got;
    path_set_init(&l.seen);
    while ((got = path_source_next(list, -1, &line, e)) > 0) {
        char *copy = xstrdup(line);
        int status = add_line(s, &l, copy, e);
        free(copy);
        if (status != 0) {
            got = -1;
            break;
        }
    }
    complaints_end(l.complaints, "");
    if (l.repeated > 0)
        warn("leaving out %" PRId64 " repeated %s%s of the list, the first '%s'", l.repeated,
             o->captions ? "pair" : "image", plural(l.repeated), l.repeated_path);
    path_set_release(&l.seen);
    free(l.repeated_path);
    free(l.folder);
    return finish_open(out, s, got, e);
}

/* The file contains, for each record, its path, a zero, its caption if any, and a zero. */
int image_set_reopen(struct image_set **out, const char *file, const struct image_set_options *o,
                     struct error *e)
{
    uint8_t *text;
    size_t size;
    if (file_read(&text, &size, file, LIST_LIMIT, e) != 0)
        return error_prefix(e, "cannot read '%s'", file);
    struct image_set *s = set_new(o);
    int status = 0;
    for (const char *at = (const char *)text, *end = at + size; at < end && status == 0;) {
        const char *caption = at + strlen(at) + 1;
        const char *next = caption < end ? caption + strlen(caption) + 1 : NULL;
        if (!next || next > end || !*at || (o->captions && !*caption))
            status = error_set(e, "'%s' is damaged", file);
        else
            add_record(s, at, o->captions ? caption : NULL);
        at = next;
    }
    free(text);
    return finish_open(out, s, status, e);
}

int image_set_save(const struct image_set *s, const char *file, struct error *e)
{
    struct atomic_file f;
    char *text;
    size_t size;
    FILE *memory = xallocated(open_memstream(&text, &size));
    for (int64_t i = 0; i < s->count; i++) {
        const struct record *r = &s->records[i];
        const char *caption = r->caption ? r->caption : "";
        fwrite(r->path, 1, strlen(r->path) + 1, memory);
        fwrite(caption, 1, strlen(caption) + 1, memory);
    }
    if (fclose(memory) != 0)
        die("out of memory");
    int status = atomic_file_open(&f, file, e);
    if (status == 0 && write_all(f.fd, text, size, e) != 0) {
        atomic_file_abandon(&f);
        status = -1;
    } else if (status == 0) {
        status = atomic_file_commit(&f, e);
    }
    free(text);
    return status;
}

void image_set_close(struct image_set *s)
{
    if (!s)
        return;
    for (int64_t i = 0; i < s->count; i++) {
        free(s->records[i].path);
        free(s->records[i].caption);
        free(atomic_load(&s->records[i].kept));
    }
    free(s->records);
    order_release(&s->order);
    unreadable_free(s->unreadable);
    complaints_end(s->complaints, "");
    free(s);
}

const struct order *image_set_order(const struct image_set *s)
{
    return &s->order;
}

struct unreadable *image_set_unreadable(const struct image_set *s)
{
    return s->unreadable;
}

const struct image_set_options *image_set_options(const struct image_set *s)
{
    return &s->options;
}

const char *image_set_path(const struct image_set *s, int64_t record)
{
    CHECK(record >= 0 && record < s->count);
    return s->records[record].path;
}

void image_set_hash(char hex[33], const struct image_set *s)
{
    XXH3_state_t *state = xallocated(XXH3_createState());
    XXH3_128bits_reset(state);
    for (int64_t i = 0; i < s->count; i++) {
        const struct record *r = &s->records[i];
        XXH3_128bits_update(state, r->path, strlen(r->path) + 1);
        if (r->caption)
            XXH3_128bits_update(state, r->caption, strlen(r->caption) + 1);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(hex, 33, "%016" PRIx64 "%016" PRIx64, hash.high64, hash.low64);
}

static size_t pixel_bytes(const struct image_set *s)
{
    return 3 * (size_t)s->options.height * (size_t)s->options.width;
}

/* Converts 8-bit gray or RGB to planes of R, G, B. */
static void to_planes(uint8_t *planes, const struct image *in)
{
    size_t pixels = (size_t)in->width * (size_t)in->height, step = (size_t)in->channels;
    for (size_t c = 0; c < 3; c++) {
        const uint8_t *from = in->pixels + (step == 1 ? 0 : c);
        for (size_t i = 0; i < pixels; i++)
            planes[c * pixels + i] = from[i * step];
    }
}

static int decode(const struct image_set *s, const char *path, uint8_t *planes, char note[128],
                  struct error *e)
{
    const struct image_set_options *o = &s->options;
    struct image image, prepared;
    int status = image_read(&image, path, o->max_pixels, e);
    if (status != 0)
        return status;
    snprintf(note, 128, "%s", image.warning);
    status = prepare_color(&image, o->color, e);
    if (status == 0)
        status = o->height == o->width ? prepare_square(&prepared, &image, o->width, e)
                                       : prepare_cover(&prepared, &image, o->width, o->height, e);
    image_release(&image);
    if (status != 0)
        return status;
    to_planes(planes, &prepared);
    image_release(&prepared);
    return 0;
}

/* Keeps a copy if there is room and no other thread was faster. */
static void keep(struct image_set *s, struct record *r, const uint8_t *planes)
{
    size_t bytes = pixel_bytes(s);
    if (atomic_fetch_add(&s->kept_bytes, bytes) + bytes > s->options.cache_bytes) {
        atomic_fetch_sub(&s->kept_bytes, bytes);
        return;
    }
    uint8_t *copy = memcpy(xmalloc(bytes), planes, bytes), *none = NULL;
    if (atomic_compare_exchange_strong(&r->kept, &none, copy))
        return;
    free(copy);
    atomic_fetch_sub(&s->kept_bytes, bytes);
}

/* Sets *pixels to the record's: the kept copy, or read into `planes`; NULL: the file cannot be
 * read. Fails if the system does. */
static int pixels_of(const uint8_t **pixels, struct image_set *s, int64_t record, uint8_t *planes,
                     struct error *e)
{
    struct record *r = &s->records[record];
    *pixels = atomic_load(&r->kept);
    if (*pixels || unreadable_has(s->unreadable, record))
        return 0;
    char remark[128] = "";
    int status = decode(s, r->path, planes, remark, e);
    if (status == READ_SYSTEM_FAILED)
        return error_prefix(e, "cannot read '%s'", r->path);
    if (status != 0) {
        if (unreadable_add(s->unreadable, record))
            complain(s->complaints, e->text, "cannot read '%s': %s; skipping it", r->path, e->text);
        return 0;
    }
    if (*remark)
        note("'%s': %s", r->path, remark);
    keep(s, r, planes);
    *pixels = planes;
    return 0;
}

static void to_floats(const struct image_set *s, float *out, const uint8_t *planes, bool flip)
{
    float unit[256];
    for (int v = 0; v < 256; v++)
        unit[v] = s->options.is_signed ? (float)v / 255.0f * 2 - 1 : (float)v / 255.0f;
    size_t rows = 3 * (size_t)s->options.height, width = (size_t)s->options.width;
    for (size_t y = 0; y < rows; y++, out += width, planes += width)
        for (size_t x = 0; x < width; x++)
            out[x] = unit[planes[flip ? width - 1 - x : x]];
}

static void batch_make(struct image_batch *b, const struct image_set *s, int64_t n)
{
    size_t count = (size_t)n;
    *b = (struct image_batch){
        .n = n,
        .height = s->options.height,
        .width = s->options.width,
        .images = xmalloc(count * pixel_bytes(s) * sizeof *b->images),
        .samples = xcalloc(count, sizeof *b->samples),
        .captions = s->options.captions ? xcalloc(count, sizeof *b->captions) : NULL,
    };
}

void image_batch_release(struct image_batch *b)
{
    free(b->images);
    free(b->samples);
    free(b->captions);
    *b = (struct image_batch){0};
}

static void put(const struct image_set *s, struct image_batch *b, int64_t i, int64_t record,
                const uint8_t *planes, bool flip)
{
    to_floats(s, b->images + (size_t)i * pixel_bytes(s), planes, flip);
    b->samples[i] = (uint64_t)record;
    if (b->captions)
        b->captions[i] = s->records[record].caption;
}

int image_set_read(struct image_set *s, const int64_t *records, int64_t n, struct image_batch *b,
                   struct error *e)
{
    image_batch_release(b);
    batch_make(b, s, n);
    b->n = 0;
    uint8_t *planes = xmalloc(pixel_bytes(s));
    struct error reason; /* of files that are left out, too */
    int status = 0;
    for (int64_t i = 0; i < n && status == 0; i++) {
        CHECK(records[i] >= 0 && records[i] < s->count);
        const uint8_t *pixels;
        status = pixels_of(&pixels, s, records[i], planes, &reason);
        if (status == 0 && pixels)
            put(s, b, b->n++, records[i], pixels, false);
        else if (status == 0)
            unreadable_meet(s->unreadable, records[i]);
    }
    free(planes);
    return status != 0 ? error_set(e, "%s", reason.text) : 0;
}

int image_set_read_holdout(struct image_set *s, int64_t first, int64_t n, struct image_batch *b,
                           struct error *e)
{
    CHECK(first >= 0 && n > 0 && first + n <= s->order.holdout);
    return image_set_read(s, s->order.held_out + first, n, b, e);
}

struct image_reader {
    struct image_set *set;
    struct batch_reader_options options;
    bool flip;
    struct read_ahead *ahead;
};

struct slot {
    struct image_batch batch;
    struct unreadable_list skipped;
    uint8_t *planes; /* for one image */
};

static void *slot_new(void *context)
{
    const struct image_reader *r = context;
    struct slot *slot = xcalloc(1, sizeof *slot);
    batch_make(&slot->batch, r->set, r->options.batch);
    slot->planes = xmalloc(pixel_bytes(r->set));
    return slot;
}

static void slot_free(void *memory)
{
    struct slot *slot = memory;
    image_batch_release(&slot->batch);
    unreadable_list_release(&slot->skipped);
    free(slot->planes);
    free(slot);
}

static bool is_flipped(const struct image_reader *r, int64_t step, int64_t record)
{
    float u = 1;
    if (r->flip)
        rng_uniform(&u, 1, r->options.seed, RNG_FLIP, (uint32_t)step, (uint64_t)record, 0);
    return u < 0.5f;
}

static int fill(void *context, void *memory, const struct batch_place *at, struct error *e)
{
    const struct image_reader *r = context;
    struct slot *slot = memory;
    struct image_set *s = r->set;
    int64_t count = order_training_count(&s->order);
    slot->batch.at = *at;
    slot->skipped.count = 0;
    for (int64_t i = 0; i < r->options.batch; i++) {
        const uint8_t *pixels = NULL;
        int64_t record = 0;
        for (int64_t tried = 0; !pixels && tried < count; tried++) {
            int64_t place = (at->first + i + tried) % count;
            record = order_record_at(&s->order, r->options.seed, at->at.epoch, place);
            if (pixels_of(&pixels, s, record, slot->planes, e) != 0)
                return -1;
            if (!pixels)
                unreadable_list_add(&slot->skipped, record);
        }
        if (!pixels)
            return error_set(e, "none of the images can be read");
        put(s, &slot->batch, i, record, pixels, is_flipped(r, at->step, record));
    }
    return 0;
}

static struct batch_reader_options with_threads(const struct batch_reader_options *o)
{
    struct batch_reader_options filled = *o;
    filled.threads = o->threads ? o->threads : threads_count();
    return filled;
}

int64_t image_reader_memory(const struct image_set *s, const struct batch_reader_options *o)
{
    struct batch_reader_options filled = with_threads(o);
    int64_t image = (int64_t)pixel_bytes(s), cache = (int64_t)s->options.cache_bytes;
    int64_t all = s->count * image;
    return read_ahead_slots(&filled) * (o->batch * (int64_t)sizeof(float) + 1) * image +
           (all < cache ? all : cache);
}

int image_reader_open(struct image_reader **out, struct image_set *s,
                      const struct batch_reader_options *o, bool flip, struct error *e)
{
    static const struct read_ahead_functions functions = {
        .slot_new = slot_new, .slot_free = slot_free, .fill = fill};
    struct image_reader *r = xcalloc(1, sizeof *r);
    r->set = s;
    r->options = with_threads(o);
    r->flip = flip;
    if (read_ahead_open(&r->ahead, &functions, r, &s->order, &r->options, e) != 0) {
        free(r);
        return -1;
    }
    *out = r;
    return 0;
}

void image_reader_close(struct image_reader *r)
{
    if (!r)
        return;
    read_ahead_close(r->ahead);
    free(r);
}

int image_reader_next(struct image_reader *r, const struct image_batch **b, struct error *e)
{
    void *slot;
    if (read_ahead_next(r->ahead, &slot, e) != 0)
        return -1;
    *b = &((struct slot *)slot)->batch;
    unreadable_meet_all(r->set->unreadable, &((struct slot *)slot)->skipped);
    return 0;
}

double image_reader_waited(const struct image_reader *r)
{
    return read_ahead_waited(r->ahead);
}
