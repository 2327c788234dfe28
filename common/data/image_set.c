#include "common/data/image_set_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "common/base/rng.h"
#include "common/base/text.h"
#include "common/base/threads.h"
#include "common/images/image_source.h"
#include "formats/archives/archive_reader.h"

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

static int read_image(struct image *image, const struct record *r, const struct image_options *o,
                      struct error *e)
{
    if (!r->member)
        return image_read_with(image, r->path, o, e);
    if (r->at < 0)
        return error_set(e, "the archive has no such member");
    char *archive = xasprintf("%.*s", (int)(r->member - 2 - r->path), r->path); /* before "!/" */
    uint8_t *data;
    size_t size;
    int status =
        archive_member_read(&data, &size, archive, r->member, r->at, IMAGE_MEMBER_LIMIT, e);
    free(archive);
    if (status != 0)
        return status;
    status = image_decode_with(image, data, size, o, e);
    free(data);
    return status;
}

static int decode(const struct image_set *s, const struct record *r, uint8_t *planes,
                  char note[128], struct error *e)
{
    const struct image_set_options *o = &s->options;
    struct image image, prepared;
    struct image_options read = prepare_options(o->color, o->max_pixels, o->allow_truncated);
    int status = read_image(&image, r, &read, e);
    if (status != 0)
        return status;
    snprintf(note, 128, "%s", image.warning);
    prepare_note_first(&image, r->path);
    status = prepare_color(&image, o->color, e);
    if (status == 0)
        status = prepare_data(&prepared, &image, o->width, o->height, e);
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
    int status = decode(s, r, planes, remark, e);
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
