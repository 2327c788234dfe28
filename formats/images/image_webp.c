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
static int read_chunks(struct image *image, const uint8_t *data, size_t size, struct error *e)
{
    for (size_t at = 12; at + 8 <= size;) {
        size_t length = get_le32(data + at + 4);
        if (length > size - at - 8)
            return error_set(e, "truncated WebP");
        const uint8_t *payload = data + at + 8;
        if (memcmp(data + at, "ICCP", 4) == 0 && image_set_icc(image, payload, length, e) != 0)
            return -1;
        if (memcmp(data + at, "EXIF", 4) == 0)
            image->orientation = image_exif_orientation(payload, length);
        at += 8 + length + (length & 1);
    }
    return 0;
}

int image_webp_decode(struct image *image, const uint8_t *data, size_t size, int64_t max_pixels,
                      struct error *e)
{
    image->format = IMAGE_WEBP;
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return error_set(e, "libwebp does not match the version of its headers");
    VP8StatusCode status = WebPGetFeatures(data, size, &config.input);
    if (status != VP8_STATUS_OK)
        return explain(status, e);
    if (config.input.has_animation)
        return error_set(e, "animated WebP: only still images are supported");
    if (image_check_pixels(config.input.width, config.input.height, max_pixels, e) != 0)
        return -1;
    size_t riff_size = get_le32(data + 4);
    if (riff_size > size - 8)
        return error_set(e, "truncated WebP");
    int channels = config.input.has_alpha ? 4 : 3;
    if (image_allocate(image, config.input.width, config.input.height, channels, 8, e) != 0 ||
        read_chunks(image, data, riff_size + 8, e) != 0)
        return -1;
    config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->pixels;
    config.output.u.RGBA.stride = image->width * channels;
    config.output.u.RGBA.size = image_bytes(image);
    status = WebPDecode(data, size, &config);
    WebPFreeDecBuffer(&config.output);
    return status == VP8_STATUS_OK ? 0 : explain(status, e);
}
