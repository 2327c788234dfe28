#include <string.h>

#include <avif/avif.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"
#include "common/base/lazy_library.h"

#define FUNCTIONS(X)                                                                               \
    X(avifResultToString)                                                                          \
    X(avifRGBImageSetDefaults)                                                                     \
    X(avifImageYUVToRGB)                                                                           \
    X(avifDecoderSetIOMemory)                                                                      \
    X(avifDecoderParse)                                                                            \
    X(avifDecoderNextImage)                                                                        \
    X(avifDecoderCreate)                                                                           \
    X(avifDecoderDestroy)

static struct {
    FUNCTIONS(LAZY_FUNCTION)
} lib;
static struct lazy_library library = LAZY_LIBRARY("AVIF", SONAME_AVIF, FUNCTIONS);

static int explain(avifResult why, struct error *e)
{
    switch (why) {
    case AVIF_RESULT_TRUNCATED_DATA:
    case AVIF_RESULT_WAITING_ON_IO:
        return error_set(e, "truncated AVIF");
    case AVIF_RESULT_NO_CODEC_AVAILABLE:
        return error_set(e, "unsupported AVIF: libavif has no AV1 decoder");
    case AVIF_RESULT_OUT_OF_MEMORY:
        return error_set(e, "out of memory for an AVIF");
    default:
        return error_set(e, "bad AVIF: %s", lib.avifResultToString(why));
    }
}

/* ISO/IEC 23008-12, 6.5.10 and 6.5.12: a rotation by quarter turns to the left, then a mirror. The
 * table is indexed by turns, then by: no mirror, top to bottom, left to right. */
static int orientation_of(const avifImage *a)
{
    static const int table[4][3] = {{1, 4, 2}, {8, 5, 7}, {3, 2, 4}, {6, 7, 5}};
    int turns = a->transformFlags & AVIF_TRANSFORM_IROT ? a->irot.angle & 3 : 0;
#if AVIF_VERSION >= 1000000
    int axis = a->imir.axis;
#else
    int axis = a->imir.mode;
#endif
    return table[turns][a->transformFlags & AVIF_TRANSFORM_IMIR ? 1 + (axis & 1) : 0];
}

static int convert(struct image *image, const avifDecoder *d, struct error *e)
{
    const avifImage *a = d->image;
    int channels = d->alphaPresent ? 4 : 3;
    if (image_allocate(image, (int)a->width, (int)a->height, channels, 8, e) != 0)
        return -1;
    avifRGBImage rgb;
    lib.avifRGBImageSetDefaults(&rgb, a);
    rgb.depth = 8;
    rgb.format = channels == 4 ? AVIF_RGB_FORMAT_RGBA : AVIF_RGB_FORMAT_RGB;
    rgb.pixels = image->pixels;
    rgb.rowBytes = a->width * (uint32_t)channels;
    avifResult status = lib.avifImageYUVToRGB(a, &rgb);
    if (status != AVIF_RESULT_OK)
        return explain(status, e);
    image->orientation = orientation_of(a);
    if (!(a->transformFlags & (AVIF_TRANSFORM_IROT | AVIF_TRANSFORM_IMIR)))
        image->orientation =
            image_choose_orientation(0, image_xmp_orientation(a->xmp.data, a->xmp.size));
    return image_set_icc(image, a->icc.data, a->icc.size, e);
}

static int decode(struct image *image, avifDecoder *d, const uint8_t *data, size_t size,
                  int64_t max_pixels, struct error *e)
{
    d->maxThreads = 1; /* many images are decoded at once */
    d->ignoreExif = AVIF_TRUE;
    d->strictFlags &= ~(avifStrictFlags)(AVIF_STRICT_PIXI_REQUIRED | AVIF_STRICT_CLAP_VALID);
    avifResult status = lib.avifDecoderSetIOMemory(d, data, size);
    if (status == AVIF_RESULT_OK)
        status = lib.avifDecoderParse(d);
    if (status != AVIF_RESULT_OK)
        return explain(status, e);
    int64_t width = d->image->width, height = d->image->height;
    if (image_check_pixels(width, height, max_pixels, e) != 0)
        return -1;
    d->imageSizeLimit = (uint32_t)(width * height); /* for what the frame itself says */
    status = lib.avifDecoderNextImage(d);
    if (status != AVIF_RESULT_OK)
        return explain(status, e);
    image->first_of_several = d->imageCount > 1;
    return convert(image, d, e);
}

int image_avif_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    if (lazy_library_load(&library, &lib, e) != 0)
        return -1;
    image->format = IMAGE_AVIF;
    avifDecoder *d = lib.avifDecoderCreate();
    if (!d)
        return error_set(e, "cannot initialize libavif");
    int status = decode(image, d, data, size, o->max_pixels, e);
    lib.avifDecoderDestroy(d);
    return status;
}
