#include "formats/tfevents.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/files.h"
#include "common/base/message.h"
#include "formats/bytes.h"

#define FILE_PREFIX "events.out.tfevents."

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    /* Remainders of four bits; reversed polynomial 0x82f63b78. */
    static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                       0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                       0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                       0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    const uint8_t *p = data;
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

uint32_t crc32c_masked(const void *data, size_t size)
{
    uint32_t crc = crc32c(0, data, size);
    return (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8);
}

/* Protocol buffers' wire format: a field's number and wire type, then its value. */
enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static void put_varint(struct bytes *b, uint64_t v)
{
    for (; v >= 128; v >>= 7)
        bytes_put(b, (uint8_t[]){(uint8_t)(v | 128)}, 1);
    bytes_put(b, (uint8_t[]){(uint8_t)v}, 1);
}

static void put_key(struct bytes *b, int field, enum wire_type type)
{
    put_varint(b, (uint64_t)field << 3 | type);
}

static void put_integer(struct bytes *b, int field, int64_t v)
{
    put_key(b, field, WIRE_VARINT);
    put_varint(b, (uint64_t)v);
}

static void put_double(struct bytes *b, int field, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(b, field, WIRE_FIXED64);
    bytes_put_number(b, bits, 8);
}

static void put_float(struct bytes *b, int field, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(b, field, WIRE_FIXED32);
    bytes_put_number(b, bits, 4);
}

static void put_bytes(struct bytes *b, int field, const void *data, size_t size)
{
    put_key(b, field, WIRE_BYTES);
    put_varint(b, size);
    bytes_put(b, data, size);
}

static void put_string(struct bytes *b, int field, const char *s)
{
    put_bytes(b, field, s, strlen(s));
}

/* Appends a message and releases it. */
static void put_message(struct bytes *b, int field, struct bytes *message)
{
    put_bytes(b, field, message->data, message->size);
    bytes_release(message);
}

struct tfevents {
    int fd;
    char *path;
    off_t size; /* of the complete frames */
};

static int write_frame(struct tfevents *t, struct bytes *event, struct error *e)
{
    struct bytes frame = {0};
    bytes_put_number(&frame, event->size, 8);
    bytes_put_number(&frame, crc32c_masked(frame.data, 8), 4);
    bytes_put(&frame, event->data, event->size);
    bytes_put_number(&frame, crc32c_masked(event->data, event->size), 4);
    int status = write_all(t->fd, frame.data, frame.size, e);
    if (status == 0)
        t->size += (off_t)frame.size;
    else if (ftruncate(t->fd, t->size) != 0 || lseek(t->fd, t->size, SEEK_SET) < 0)
        error_prefix(e, "cannot remove a partial event from the file");
    bytes_release(&frame);
    bytes_release(event);
    return status != 0 ? error_prefix(e, "'%s'", t->path) : 0;
}

/* Event: 1 wall_time, 2 step, 3 file_version, 5 summary, 7 session_log. */
static struct bytes event_of(double wall_time, int64_t step)
{
    struct bytes event = {0};
    put_double(&event, 1, wall_time);
    put_integer(&event, 2, step);
    return event;
}

/* The largest SECONDS in the names of the folder's event files; -1: none. */
static int64_t last_file(const char *folder)
{
    int64_t last = -1;
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (strncmp(entry->d_name, FILE_PREFIX, strlen(FILE_PREFIX)) != 0)
            continue;
        int64_t seconds = strtoll(entry->d_name + strlen(FILE_PREFIX), NULL, 10);
        last = seconds > last ? seconds : last;
    }
    if (d)
        closedir(d);
    return last;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int write_preamble(struct tfevents *t, int64_t first_step, struct error *e)
{
    struct bytes event = {0};
    put_double(&event, 1, now());
    put_string(&event, 3, "brain.Event:2");
    if (write_frame(t, &event, e) != 0)
        return -1;
    if (first_step < 0)
        return 0;
    event = event_of(now(), first_step);
    struct bytes session = {0};
    put_integer(&session, 1, 1); /* status: START */
    put_message(&event, 7, &session);
    return write_frame(t, &event, e);
}

int tfevents_open(struct tfevents **out, const char *folder, int64_t first_step, struct error *e)
{
    int64_t seconds = (int64_t)time(NULL), last = last_file(folder);
    if (seconds <= last) /* TensorBoard reads a folder's files in order of name */
        seconds = last + 1;
    char host[256];
    if (gethostname(host, sizeof host) != 0)
        strcpy(host, "localhost");
    host[sizeof host - 1] = 0;
    struct tfevents *t = xcalloc(1, sizeof *t);
    char *name = xasprintf(FILE_PREFIX "%010" PRId64 ".%s.%ld", seconds, host, (long)getpid());
    t->path = path_join(folder, name);
    free(name);
    t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int status = t->fd < 0 ? error_errno(e, "cannot create '%s'", t->path)
                           : write_preamble(t, first_step, e);
    if (status != 0) {
        tfevents_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

void tfevents_close(struct tfevents *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t->path);
    free(t);
}

const char *tfevents_path(const struct tfevents *t)
{
    return t->path;
}

/* Summary: 1 values. Value: 1 tag, 2 simple_value, 4 image, 8 tensor, 9 metadata. */

int tfevents_scalars(struct tfevents *t, double wall_time, int64_t step,
                     const struct tfevents_scalar *scalars, int count, struct error *e)
{
    struct bytes event = event_of(wall_time, step), summary = {0};
    for (int i = 0; i < count; i++) {
        struct bytes value = {0};
        put_string(&value, 1, scalars[i].tag);
        put_float(&value, 2, scalars[i].value);
        put_message(&summary, 1, &value);
    }
    put_message(&event, 5, &summary);
    return write_frame(t, &event, e);
}

static int write_value(struct tfevents *t, double wall_time, int64_t step, struct bytes *value,
                       struct error *e)
{
    struct bytes event = event_of(wall_time, step), summary = {0};
    put_message(&summary, 1, value);
    put_message(&event, 5, &summary);
    return write_frame(t, &event, e);
}

static uint32_t big_endian32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Image: 1 height, 2 width, 3 colorspace (channels), 4 the encoded image. */
int tfevents_image(struct tfevents *t, double wall_time, int64_t step, const char *tag,
                   const void *png, size_t size, struct error *e)
{
    static const uint8_t signature[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    static const uint8_t channels[8] = {[0] = 1, [2] = 3, [4] = 2, [6] = 4}; /* by color type */
    const uint8_t *p = png;
    if (size < 33 || memcmp(p, signature, 16) != 0 || p[25] > 7 || channels[p[25]] == 0)
        return error_set(e, "not a gray or RGB PNG");
    struct bytes image = {0}, value = {0};
    put_integer(&image, 1, big_endian32(p + 20));
    put_integer(&image, 2, big_endian32(p + 16));
    put_integer(&image, 3, channels[p[25]]);
    put_bytes(&image, 4, png, size);
    put_string(&value, 1, tag);
    put_message(&value, 4, &image);
    return write_value(t, wall_time, step, &value, e);
}

/* SummaryMetadata: 1 plugin_data (1 plugin_name), 4 data_class. TensorProto: 1 dtype, 2
 * tensor_shape, 8 string_val. */
int tfevents_text(struct tfevents *t, double wall_time, int64_t step, const char *tag,
                  const char *text, struct error *e)
{
    struct bytes plugin = {0}, metadata = {0}, tensor = {0}, shape = {0}, value = {0};
    put_string(&plugin, 1, "text");
    put_message(&metadata, 1, &plugin);
    put_integer(&metadata, 4, 2); /* DATA_CLASS_TENSOR */
    put_integer(&tensor, 1, 7);   /* DT_STRING */
    put_message(&tensor, 2, &shape);
    put_string(&tensor, 8, text);
    put_string(&value, 1, tag);
    put_message(&value, 8, &tensor);
    put_message(&value, 9, &metadata);
    return write_value(t, wall_time, step, &value, e);
}
