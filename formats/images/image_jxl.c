#include <stdlib.h>
#include <string.h>

#include <jxl/decode.h>

#include "common/base/mute.h"
#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"
#include "common/base/lazy_library.h"

#define FUNCTIONS(X)                                                                               \
    X(JxlDecoderGetBasicInfo)                                                                      \
    X(JxlDecoderSetUnpremultiplyAlpha)                                                             \
    X(JxlDecoderGetICCProfileSize)                                                                 \
    X(JxlDecoderGetColorAsICCProfile)                                                              \
    X(JxlDecoderSetImageOutBuffer)                                                                 \
    X(JxlDecoderSubscribeEvents)                                                                   \
    X(JxlDecoderSetInput)                                                                          \
    X(JxlDecoderProcessInput)                                                                      \
    X(JxlDecoderCreate)                                                                            \
    X(JxlDecoderDestroy)                                                                           \
    X(JxlDecoderSetJPEGBuffer)                                                                     \
    X(JxlDecoderReleaseJPEGBuffer)

static struct {
    FUNCTIONS(LAZY_FUNCTION)
} lib;
static struct lazy_library library = LAZY_LIBRARY("JPEG XL", SONAME_JXL, FUNCTIONS);

/* libjxl's memory is counted: what a file asks for must be in proportion to its pixels. */
#define BYTES_PER_PIXEL 64
#define BYTES_ALWAYS    ((size_t)64 << 20)

struct jxl_reader {
    JxlDecoder *decoder;
    size_t size;       /* of the file */
    size_t used, most; /* bytes */
    struct image *image;
    int64_t max_pixels;
    JxlPixelFormat format;
    uint8_t *jpeg; /* the file that this one was made of without loss, or NULL */
    size_t jpeg_size, jpeg_room;
};

struct block {
    _Alignas(max_align_t) size_t size;
};

static void *counted_alloc(void *reader, size_t size)
{
    struct jxl_reader *r = reader;
    if (size > r->most - r->used)
        return NULL;
    struct block *b = malloc(sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    r->used += size;
    return b + 1;
}

static void counted_free(void *reader, void *memory)
{
    struct jxl_reader *r = reader;
    if (!memory)
        return;
    struct block *b = (struct block *)memory - 1;
    r->used -= b->size;
    free(b);
}

static int read_info(struct jxl_reader *r, struct error *e)
{
    JxlBasicInfo info;
    if (lib.JxlDecoderGetBasicInfo(r->decoder, &info) != JXL_DEC_SUCCESS)
        return error_set(e, "bad JPEG XL: damaged header");
    if (image_check_pixels(info.xsize, info.ysize, r->max_pixels, e) != 0)
        return -1;
    bool alpha = info.alpha_bits > 0, wide = info.bits_per_sample > 8;
    int channels = (info.num_color_channels == 1 ? 1 : 3) + alpha;
    r->format = (JxlPixelFormat){
        .num_channels = (uint32_t)channels,
        .data_type = wide ? JXL_TYPE_UINT16 : JXL_TYPE_UINT8,
        .endianness = JXL_NATIVE_ENDIAN,
    };
    r->image->first_of_several = info.have_animation;
    r->most = BYTES_ALWAYS + (size_t)info.xsize * info.ysize * BYTES_PER_PIXEL;
    if (info.alpha_premultiplied)
        lib.JxlDecoderSetUnpremultiplyAlpha(r->decoder, JXL_TRUE);
    return image_allocate(r->image, (int)info.xsize, (int)info.ysize, channels, wide ? 16 : 8, e);
}

static int read_profile(struct jxl_reader *r, struct error *e)
{
    enum { MOST = 64 << 20 };
    size_t size = 0;
#if JPEGXL_NUMERIC_VERSION >= JPEGXL_COMPUTE_NUMERIC_VERSION(0, 9, 0)
    if (lib.JxlDecoderGetICCProfileSize(r->decoder, JXL_COLOR_PROFILE_TARGET_DATA, &size) !=
#else
    if (lib.JxlDecoderGetICCProfileSize(r->decoder, NULL, JXL_COLOR_PROFILE_TARGET_DATA, &size) !=
#endif
            JXL_DEC_SUCCESS ||
        size == 0 || size > MOST)
        return 0;
    uint8_t *icc = malloc(size);
    if (!icc)
        return error_set(e, "out of memory for a color profile of %zu bytes", size);
    int status = 0;
#if JPEGXL_NUMERIC_VERSION >= JPEGXL_COMPUTE_NUMERIC_VERSION(0, 9, 0)
    if (lib.JxlDecoderGetColorAsICCProfile(r->decoder, JXL_COLOR_PROFILE_TARGET_DATA, icc, size) ==
#else
    if (lib.JxlDecoderGetColorAsICCProfile(r->decoder, NULL, JXL_COLOR_PROFILE_TARGET_DATA, icc,
                                           size) ==
#endif
        JXL_DEC_SUCCESS)
        status = image_set_icc(r->image, icc, size, e);
    free(icc);
    return status;
}

/* Gives libjxl a larger buffer for the JPEG, which is in proportion to the file. */
static int grow_jpeg(struct jxl_reader *r, struct error *e)
{
    if (r->jpeg)
        r->jpeg_size = r->jpeg_room - lib.JxlDecoderReleaseJPEGBuffer(r->decoder);
    size_t room = r->jpeg ? 2 * r->jpeg_room : 2 * r->size + 65536;
    uint8_t *more = room > 64 * r->size + BYTES_ALWAYS ? NULL : realloc(r->jpeg, room);
    if (!more)
        return error_set(e, "out of memory for the JPEG in a JPEG XL");
    r->jpeg = more;
    r->jpeg_room = room;
    if (lib.JxlDecoderSetJPEGBuffer(r->decoder, r->jpeg + r->jpeg_size, room - r->jpeg_size) !=
        JXL_DEC_SUCCESS)
        return error_set(e, "bad JPEG XL: its JPEG cannot be restored");
    return 0;
}

/* Handles one event; returns 1 after the pixels of the first frame. */
static int step(struct jxl_reader *r, JxlDecoderStatus event, struct error *e)
{
    switch (event) {
    case JXL_DEC_BASIC_INFO:
        return read_info(r, e);
    case JXL_DEC_COLOR_ENCODING:
        return read_profile(r, e);
    case JXL_DEC_JPEG_RECONSTRUCTION:
    case JXL_DEC_JPEG_NEED_MORE_OUTPUT:
        return grow_jpeg(r, e);
    case JXL_DEC_NEED_IMAGE_OUT_BUFFER:
        if (lib.JxlDecoderSetImageOutBuffer(r->decoder, &r->format, r->image->pixels,
                                            image_bytes(r->image)) != JXL_DEC_SUCCESS)
            return error_set(e, "bad JPEG XL: its frame has another size");
        return 0;
    case JXL_DEC_FULL_IMAGE:
        return 1;
    case JXL_DEC_NEED_MORE_INPUT:
        return error_set(e, "truncated JPEG XL");
    case JXL_DEC_SUCCESS:
        return error_set(e, "bad JPEG XL: it has no image");
    default:
        return error_set(e, "bad JPEG XL: damaged data");
    }
}

static int decode(struct jxl_reader *r, const uint8_t *data, size_t size, struct error *e)
{
    const int events = JXL_DEC_BASIC_INFO | JXL_DEC_COLOR_ENCODING | JXL_DEC_FULL_IMAGE |
                       JXL_DEC_JPEG_RECONSTRUCTION;
    if (lib.JxlDecoderSubscribeEvents(r->decoder, events) != JXL_DEC_SUCCESS ||
        lib.JxlDecoderSetInput(r->decoder, data, size) != JXL_DEC_SUCCESS)
        return error_set(e, "cannot initialize libjxl");
    int status = 0;
    while (status == 0)
        status = step(r, lib.JxlDecoderProcessInput(r->decoder), e);
    return status < 0 ? -1 : 0;
}

/* libjpeg decodes the restored JPEG, so that it has the pixels of the file it was. */
static int decode_jpeg(struct jxl_reader *r, const struct image_options *o, struct error *e)
{
    size_t size = r->jpeg_room - lib.JxlDecoderReleaseJPEGBuffer(r->decoder);
    struct image_options whole = {.max_pixels = o->max_pixels};
    image_release(r->image);
    int status = image_jpeg_decode(r->image, r->jpeg, size, &whole, e);
    r->image->format = IMAGE_JXL;
    return status;
}

/* Pixels are upright: libjxl applies the orientation. */
int image_jxl_decode(struct image *image, const uint8_t *data, size_t size,
                     const struct image_options *o, struct error *e)
{
    if (lazy_library_load(&library, &lib, e) != 0)
        return -1;
    struct jxl_reader r = {
        .image = image, .size = size, .max_pixels = o->max_pixels, .most = BYTES_ALWAYS};
    JxlMemoryManager memory = {&r, counted_alloc, counted_free};
    image->format = IMAGE_JXL;
    r.decoder = lib.JxlDecoderCreate(&memory);
    if (!r.decoder)
        return error_set(e, "cannot initialize libjxl");
    stderr_mute(true); /* Debian 12's libjxl prints why it fails */
    int status = decode(&r, data, size, e);
    if (status == 0 && r.jpeg)
        status = decode_jpeg(&r, o, e);
    lib.JxlDecoderDestroy(r.decoder);
    stderr_mute(false);
    free(r.jpeg);
    return status;
}
