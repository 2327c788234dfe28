#include <string.h>

#include <webp/decode.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"

static uint32_t get_le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int explain(VP8StatusCode status, struct error *e)
{
    switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        return error_set(e, "truncated WebP");
    case VP8_STATUS_OUT_OF_MEMORY:
        return error_set(e, "out of memory for a WebP");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return error_set(e, "bad WebP: unsupported feature");
    default:
        return error_set(e, "bad WebP: damaged bitstream");
    }
}

/* Reads the RIFF chunks besides the pixels: a four-character code, a little-endian size, and data
 * padded to an even number of bytes. */
static int read_chunks(struct image *image, const uint8_t *data, size_t size,
                       const struct image_options *o, struct error *e)
{
    int exif = 0, xmp = 0;
    for (size_t at = 12; at + 8 <= size;) {
        size_t length = get_le32(data + at + 4);
        if (length > size - at - 8) {
            if (o->allow_truncated)
                break;
            return error_set(e, "truncated WebP");
        }
        const uint8_t *payload = data + at + 8;
        if (memcmp(data + at, "ICCP", 4) == 0 && image_set_icc(image, payload, length, e) != 0)
            return -1;
        if (memcmp(data + at, "EXIF", 4) == 0)
            exif = image_exif_orientation(payload, length);
        if (memcmp(data + at, "XMP ", 4) == 0)
            xmp = image_xmp_orientation(payload, length);
        at += 8 + length + (length & 1);
    }
    image->orientation = image_choose_orientation(exif, xmp);
    return 0;
}

/* The frame of an animation that comes first: its chunk has offsets, width and height of 24 bits
 * (halved, less one), then duration and flags, then the chunks of its pixels. */
struct frame {
    const uint8_t *data;
    size_t size;
    int x, y, width, height;
};

static uint32_t get_le24(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

/* Sets image->first_of_several as well. */
static int find_frame(struct frame *f, struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    enum { HEADER = 16 };
    for (size_t at = 12; at + 8 <= size;) {
        size_t length = get_le32(data + at + 4);
        if (length > size - at - 8) {
            if (!o->allow_truncated)
                return error_set(e, "truncated WebP");
            length = size - at - 8;
        }
        const uint8_t *p = data + at + 8;
        if (memcmp(data + at, "ANMF", 4) == 0 && length >= HEADER) {
            if (f->data) {
                image->first_of_several = true;
                return 0;
            }
            *f = (struct frame){
                .data = p + HEADER,
                .size = length - HEADER,
                .x = (int)get_le24(p) * 2,
                .y = (int)get_le24(p + 3) * 2,
                .width = (int)get_le24(p + 6) + 1,
                .height = (int)get_le24(p + 9) + 1,
            };
        }
        at += 8 + length + (length & 1);
    }
    return f->data ? 0 : error_set(e, "bad WebP: an animation without frames");
}

/* Row by row as far as the data go. */
static VP8StatusCode decode_part(const struct frame *f, WebPDecoderConfig *config)
{
    WebPIDecoder *d = WebPIDecode(NULL, 0, config);
    if (!d)
        return VP8_STATUS_OUT_OF_MEMORY;
    VP8StatusCode status = WebPIUpdate(d, f->data, f->size);
    WebPIDelete(d);
    return status;
}

/* Decodes into the rectangle of the frame. */
static int decode_frame(struct image *image, const struct frame *f, const struct image_options *o,
                        struct error *e)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return error_set(e, "libwebp does not match the version of its headers");
    VP8StatusCode status = WebPGetFeatures(f->data, f->size, &config.input);
    if (status != VP8_STATUS_OK)
        return explain(status, e);
    if (config.input.width != f->width || config.input.height != f->height ||
        f->x > image->width - f->width || f->y > image->height - f->height)
        return error_set(e, "bad WebP: a frame does not fit");
    size_t channels = (size_t)image->channels, stride = (size_t)image->width * channels;
    size_t at = (size_t)f->y * stride + (size_t)f->x * channels;
    config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->pixels + at;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = image_bytes(image) - at;
    status = o->allow_truncated ? decode_part(f, &config) : WebPDecode(f->data, f->size, &config);
    WebPFreeDecBuffer(&config.output);
    image->truncated = o->allow_truncated && status == VP8_STATUS_SUSPENDED;
    return status == VP8_STATUS_OK || image->truncated ? 0 : explain(status, e);
}

int image_webp_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    image->format = IMAGE_WEBP;
    WebPBitstreamFeatures file;
    VP8StatusCode status = WebPGetFeatures(data, size, &file);
    if (status != VP8_STATUS_OK)
        return explain(status, e);
    if (image_check_pixels(file.width, file.height, o->max_pixels, e) != 0)
        return -1;
    size_t riff_size = get_le32(data + 4);
    if (riff_size > size - 8) {
        if (!o->allow_truncated)
            return error_set(e, "truncated WebP");
        riff_size = size - 8;
    }
    struct frame f = {.data = data, .size = size, .width = file.width, .height = file.height};
    if (file.has_animation) {
        f = (struct frame){0};
        if (find_frame(&f, image, data, riff_size + 8, o, e) != 0)
            return -1;
    }
    int channels = file.has_alpha ? 4 : 3;
    if (image_allocate(image, file.width, file.height, channels, 8, e) != 0 ||
        read_chunks(image, data, riff_size + 8, o, e) != 0)
        return -1;
    if (o->allow_truncated)
        image_fill(image, o->missing);
    if (file.has_animation) /* around the frame: transparent, or else black */
        memset(image->pixels, 0, image_bytes(image));
    return decode_frame(image, &f, o, e);
}
