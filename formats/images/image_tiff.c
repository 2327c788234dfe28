#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <tiffio.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"
#include "formats/images/tiff_samples.h"
#include "common/base/lazy_library.h"

#define FUNCTIONS(X)                                                                               \
    X(TIFFGetFieldDefaulted)                                                                       \
    X(TIFFGetField)                                                                                \
    X(TIFFIsCODECConfigured)                                                                       \
    X(TIFFTileSize)                                                                                \
    X(TIFFTileRowSize)                                                                             \
    X(TIFFComputeTile)                                                                             \
    X(TIFFReadEncodedTile)                                                                         \
    X(TIFFScanlineSize)                                                                            \
    X(TIFFVStripSize)                                                                              \
    X(TIFFComputeStrip)                                                                            \
    X(TIFFReadEncodedStrip)                                                                        \
    X(TIFFRGBAImageOK)                                                                             \
    X(TIFFRGBAImageBegin)                                                                          \
    X(TIFFRGBAImageGet)                                                                            \
    X(TIFFRGBAImageEnd)                                                                            \
    X(TIFFSetField)                                                                                \
    X(TIFFIsTiled)                                                                                 \
    X(TIFFLastDirectory)                                                                           \
    X(TIFFOpenOptionsAlloc)                                                                        \
    X(TIFFOpenOptionsSetMaxSingleMemAlloc)                                                         \
    X(TIFFOpenOptionsSetErrorHandlerExtR)                                                          \
    X(TIFFOpenOptionsSetWarningHandlerExtR)                                                        \
    X(TIFFClientOpenExt)                                                                           \
    X(TIFFOpenOptionsFree)                                                                         \
    X(TIFFClose)

static struct {
    FUNCTIONS(LAZY_FUNCTION)
} lib;
static struct lazy_library library = LAZY_LIBRARY("TIFF", SONAME_TIFF, FUNCTIONS);

struct tiff_reader {
    TIFF *tiff;
    const uint8_t *data;
    size_t size, at;
    char reason[160]; /* libtiff's first complaint */
    bool tag_lost;    /* a tag that matters lies beyond the end of the file */
    struct image *image;
    uint32_t width, height;
    uint16_t photometric, bits, samples, planar, compression, format;
    uint16_t extra_count, *extra; /* extra samples by kind; of libtiff */
    int colors;                   /* samples per pixel that are colors */
    bool premultiplied, clip_gray;
    struct tiff_samples layout;
};

static tmsize_t read_bytes(thandle_t handle, void *out, tmsize_t n)
{
    struct tiff_reader *r = handle;
    size_t left = r->at < r->size ? r->size - r->at : 0;
    size_t count = (size_t)n < left ? (size_t)n : left;
    memcpy(out, r->data + (count ? r->at : 0), count);
    r->at += count;
    return (tmsize_t)count;
}

static tmsize_t write_nothing(thandle_t handle, void *in, tmsize_t n)
{
    return 0;
}

static toff_t seek(thandle_t handle, toff_t offset, int whence)
{
    struct tiff_reader *r = handle;
    r->at = offset + (whence == SEEK_CUR ? r->at : whence == SEEK_END ? r->size : 0);
    return r->at;
}

static int close_nothing(thandle_t handle)
{
    return 0;
}

static toff_t file_size(thandle_t handle)
{
    return ((struct tiff_reader *)handle)->size;
}

/* Whole tiles and strips can be taken from where they lie. */
static int map_file(thandle_t handle, void **base, toff_t *size)
{
    struct tiff_reader *r = handle;
    *base = (void *)(uintptr_t)r->data;
    *size = r->size;
    return 1;
}

static void unmap_file(thandle_t handle, void *base, toff_t size)
{
}

__attribute__((format(printf, 4, 0))) static int
keep_error(TIFF *tiff, void *reader, const char *module, const char *format, va_list arguments)
{
    struct tiff_reader *r = reader;
    if (!r->reason[0])
        vsnprintf(r->reason, sizeof r->reason, format, arguments);
    return 1; /* printed */
}

/* Whether libtiff's complaint names a tag that only describes the image. */
static bool is_description(const char *text)
{
    static const char *const names[] = {
        "Artist",       "Copyright",         "DateTime",    "DocumentName",
        "HostComputer", "ImageDescription",  "Make",        "Model",
        "PageName",     "PageNumber",        "Photoshop",   "RichTIFFIPTC",
        "Software",     "TIFF_GDALMetadata", "XResolution", "YResolution"};
    const char *name = strchr(text, '"');
    if (name && strncmp(name, "\"Tag ", 5) == 0) /* one that libtiff does not know */
        return true;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(name + 1, names[i], length) == 0 && name[1 + length] == '"')
            return true;
    }
    return false;
}

__attribute__((format(printf, 4, 0))) static int
take_warning(TIFF *tiff, void *reader, const char *module, const char *format, va_list arguments)
{
    struct tiff_reader *r = reader;
    char text[160];
    vsnprintf(text, sizeof text, format, arguments);
    if (!strstr(text, "IO error during reading"))
        return 1;
    if (is_description(text))
        image_set_warning(r->image, "a tag that describes the TIFF lies beyond its end");
    else
        r->tag_lost = true;
    return 1;
}

static int explain(struct tiff_reader *r, struct error *e)
{
    for (char *p = r->reason; *p; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = '?'; /* it may quote bytes of the file */
    if (strstr(r->reason, "Read error") || strstr(r->reason, "read error") ||
        strstr(r->reason, "Cannot handle zero") || strstr(r->reason, "Can not read") ||
        strstr(r->reason, "not enough data") || strstr(r->reason, "Not enough data"))
        return error_set(e, "truncated TIFF: %s", r->reason);
    return error_set(e, "bad TIFF: %s", r->reason[0] ? r->reason : "it cannot be decoded");
}

static uint16_t get16(struct tiff_reader *r, uint32_t tag, uint16_t otherwise)
{
    uint16_t v = 0;
    return lib.TIFFGetFieldDefaulted(r->tiff, tag, &v) ? v : otherwise;
}

static void read_tags(struct tiff_reader *r)
{
    lib.TIFFGetField(r->tiff, TIFFTAG_IMAGEWIDTH, &r->width);
    lib.TIFFGetField(r->tiff, TIFFTAG_IMAGELENGTH, &r->height);
    r->bits = get16(r, TIFFTAG_BITSPERSAMPLE, 1);
    r->samples = get16(r, TIFFTAG_SAMPLESPERPIXEL, 1);
    r->planar = get16(r, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    r->compression = get16(r, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    r->format = get16(r, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    if (!lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_EXTRASAMPLES, &r->extra_count, &r->extra))
        r->extra_count = 0;
    if (!lib.TIFFGetField(r->tiff, TIFFTAG_PHOTOMETRIC, &r->photometric))
        r->photometric = PHOTOMETRIC_MINISWHITE;
    if (r->compression == COMPRESSION_OJPEG)
        r->photometric = PHOTOMETRIC_YCBCR;
}

static int refuse(const struct tiff_reader *r, const char *what, struct error *e)
{
    return error_set(e, "unsupported TIFF: %s", what);
}

/* The number of color samples, or -1 for color spaces that are not read. */
static int count_colors(const struct tiff_reader *r, struct error *e)
{
    switch (r->photometric) {
    case PHOTOMETRIC_MINISWHITE:
    case PHOTOMETRIC_MINISBLACK:
    case PHOTOMETRIC_PALETTE:
        return 1;
    case PHOTOMETRIC_RGB:
    case PHOTOMETRIC_YCBCR:
        return r->samples == 1 && r->photometric == PHOTOMETRIC_YCBCR ? 1 : 3;
    case PHOTOMETRIC_SEPARATED:
        return 4;
    case PHOTOMETRIC_CIELAB:
        return r->bits == 8 && r->samples == 3 ? 3 : refuse(r, "this kind of L*a*b* colors", e);
    case PHOTOMETRIC_ICCLAB:
    case PHOTOMETRIC_ITULAB:
        return refuse(r, "L*a*b* colors", e);
    default:
        return error_set(e, "unsupported TIFF: color space %d", r->photometric);
    }
}

/* Whether this is a kind of gray that Pillow reads and clips. */
static bool is_clipped(const struct tiff_reader *r)
{
    bool black = r->photometric == PHOTOMETRIC_MINISBLACK;
    if (!r->clip_gray || r->samples != 1)
        return false;
    if (r->format == SAMPLEFORMAT_IEEEFP)
        return r->bits == 32 && (black || r->photometric == PHOTOMETRIC_MINISWHITE);
    return black && ((r->format == SAMPLEFORMAT_INT && r->bits == 16) ||
                     (r->format <= SAMPLEFORMAT_INT && r->bits == 32));
}

static int check_numbers(const struct tiff_reader *r, struct error *e)
{
    if (is_clipped(r))
        return 0;
    if (r->format == SAMPLEFORMAT_IEEEFP || r->format == SAMPLEFORMAT_COMPLEXIEEEFP)
        return refuse(r, "floating-point samples", e);
    if (r->format != SAMPLEFORMAT_UINT && r->format != SAMPLEFORMAT_VOID &&
        !(r->format == SAMPLEFORMAT_INT && r->bits == 8))
        return refuse(r, "signed samples", e);
    bool packed = r->colors == 1 && r->samples == 1 &&
                  (r->bits == 1 || r->bits == 2 || r->bits == 4 ||
                   (r->bits == 12 && r->photometric != PHOTOMETRIC_PALETTE));
    bool wide = r->bits == 16 && r->photometric != PHOTOMETRIC_PALETTE;
    if (r->bits != 8 && !packed && !wide)
        return error_set(e, "unsupported TIFF: %d samples of %d bits", r->samples, r->bits);
    return 0;
}

static int check_kind(struct tiff_reader *r, struct error *e)
{
    r->colors = count_colors(r, e);
    if (r->colors < 0 || check_numbers(r, e) != 0)
        return -1;
    if (r->samples < r->colors)
        return error_set(e, "unsupported TIFF: %d samples per pixel", r->samples);
    uint16_t **map = r->layout.map;
    if (r->photometric == PHOTOMETRIC_PALETTE &&
        !lib.TIFFGetField(r->tiff, TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]))
        return error_set(e, "bad TIFF: its color map is missing");
    return lib.TIFFIsCODECConfigured(r->compression)
               ? 0
               : error_set(e, "unsupported TIFF: compression %d", r->compression);
}

static void describe_samples(struct tiff_reader *r)
{
    struct tiff_samples *s = &r->layout;
    s->bits = r->bits;
    s->count = r->samples;
    s->clip = is_clipped(r);
    s->is_float = r->format == SAMPLEFORMAT_IEEEFP;
    s->planes = r->planar == PLANARCONFIG_SEPARATE;
    s->invert = r->photometric == PHOTOMETRIC_MINISWHITE && !s->clip;
    s->lab = r->photometric == PHOTOMETRIC_CIELAB;
}

/* Whether the sample after the colors is opacity. Pillow takes a fourth one for it even if the file
 * does not say so. */
static bool has_alpha(struct tiff_reader *r)
{
    if (r->samples <= r->colors || r->colors == 4 || r->photometric == PHOTOMETRIC_YCBCR)
        return false;
    if (r->extra_count == 0)
        return r->colors == 3 && r->samples == 4;
    r->premultiplied = r->extra[0] == EXTRASAMPLE_ASSOCALPHA;
    return r->extra[0] != EXTRASAMPLE_UNSPECIFIED;
}

static int allocate(struct tiff_reader *r, struct error *e)
{
    bool palette = r->photometric == PHOTOMETRIC_PALETTE, alpha = has_alpha(r);
    int channels = (palette ? 3 : r->colors) + alpha, depth = r->bits > 8 ? 16 : 8;
    struct image *image = r->image;
    describe_samples(r);
    if (r->layout.clip)
        depth = 8;
    if (image_allocate(image, (int)r->width, (int)r->height, channels, depth, e) != 0)
        return -1;
    if (r->layout.lab)
        image->color = IMAGE_LAB;
    if (r->colors == 4) {
        image->color = IMAGE_CMYK;
        image->alpha = false;
    }
    if (r->bits == 12)
        image->source_maxval = 4095;
    return 0;
}

/* Those of further samples are not read. */
static size_t count_planes(const struct tiff_reader *r)
{
    return r->planar == PLANARCONFIG_SEPARATE ? (size_t)(r->colors + r->image->alpha) : 1;
}

/* Zeroed, since libtiff leaves out what it cannot decode of a damaged strip. A tile may be larger
 * than the image, and pixels may have samples that are not read: within limits. */
static uint8_t *allocate_part(struct tiff_reader *r, tmsize_t size, const char *what,
                              struct error *e)
{
    enum { BYTES_PER_PIXEL = 64, BYTES_ALWAYS = 64 << 20 };
    if (size <= 0) {
        explain(r, e);
        return NULL;
    }
    size_t pixels = (size_t)r->width * r->height;
    bool fits = (size_t)size <= BYTES_ALWAYS || (size_t)size / BYTES_PER_PIXEL <= pixels;
    uint8_t *part = fits ? calloc(1, (size_t)size) : NULL;
    if (!fits)
        error_set(e, "bad TIFF: a %s of %" PRId64 " bytes", what, (int64_t)size);
    else if (!part)
        error_set(e, "out of memory for a %s", what);
    return part;
}

static int read_tiles(struct tiff_reader *r, int64_t max_pixels, struct error *e)
{
    uint32_t width = 0, height = 0;
    lib.TIFFGetField(r->tiff, TIFFTAG_TILEWIDTH, &width);
    lib.TIFFGetField(r->tiff, TIFFTAG_TILELENGTH, &height);
    if (image_check_pixels(width, height, max_pixels, e) != 0)
        return error_prefix(e, "bad TIFF: a tile");
    tmsize_t size = lib.TIFFTileSize(r->tiff), stride = lib.TIFFTileRowSize(r->tiff);
    uint8_t *tile = allocate_part(r, size, "tile", e);
    if (!tile)
        return -1;
    int status = 0;
    size_t planes = count_planes(r);
    for (size_t plane = 0; plane < planes && status == 0; plane++)
        for (uint32_t y = 0; y < r->height && status == 0; y += height)
            for (uint32_t x = 0; x < r->width && status == 0; x += width) {
                uint32_t n = lib.TIFFComputeTile(r->tiff, x, y, 0, (uint16_t)plane);
                tmsize_t got = lib.TIFFReadEncodedTile(r->tiff, n, tile, size);
                if (got < size)
                    status = explain(r, e);
                for (uint32_t i = 0; i < height && y + i < r->height && status == 0; i++)
                    tiff_samples_unpack(r->image, &r->layout, tile + (size_t)i * (size_t)stride, x,
                                        y + i, r->width - x < width ? r->width - x : width, plane);
            }
    free(tile);
    return status;
}

static int read_strips(struct tiff_reader *r, struct error *e)
{
    uint32_t rows = 0;
    lib.TIFFGetFieldDefaulted(r->tiff, TIFFTAG_ROWSPERSTRIP, &rows);
    if (rows == 0 || rows > r->height)
        rows = r->height;
    tmsize_t stride = lib.TIFFScanlineSize(r->tiff);
    tmsize_t size = lib.TIFFVStripSize(r->tiff, rows);
    uint8_t *strip = allocate_part(r, stride > 0 ? size : 0, "strip", e);
    if (!strip)
        return -1;
    int status = 0;
    size_t planes = count_planes(r);
    for (size_t plane = 0; plane < planes && status == 0; plane++)
        for (uint32_t y = 0; y < r->height && status == 0; y += rows) {
            uint32_t count = r->height - y < rows ? r->height - y : rows;
            uint32_t n = lib.TIFFComputeStrip(r->tiff, y, (uint16_t)plane);
            if (lib.TIFFReadEncodedStrip(r->tiff, n, strip, (tmsize_t)count * stride) <
                (tmsize_t)count * stride)
                status = explain(r, e);
            for (uint32_t i = 0; i < count && status == 0; i++)
                tiff_samples_unpack(r->image, &r->layout, strip + (size_t)i * (size_t)stride, 0,
                                    y + i, r->width, plane);
        }
    free(strip);
    return status;
}

/* libtiff converts subsampled YCbCr. */
static int read_ycbcr(struct tiff_reader *r, struct error *e)
{
    TIFFRGBAImage img;
    char reason[1024] = "";
    size_t pixels = (size_t)r->width * r->height;
    if (!lib.TIFFRGBAImageOK(r->tiff, reason) || !lib.TIFFRGBAImageBegin(&img, r->tiff, 1, reason))
        return error_set(e, "unsupported TIFF: %.100s", reason);
    img.orientation = img.req_orientation = ORIENTATION_TOPLEFT; /* applied later */
    uint32_t *raster = malloc(pixels * sizeof *raster);
    int status = raster ? 0 : error_set(e, "out of memory for a TIFF");
    if (raster && !lib.TIFFRGBAImageGet(&img, raster, r->width, r->height))
        status = explain(r, e);
    for (size_t i = 0; i < pixels && status == 0; i++) {
        r->image->pixels[3 * i] = (uint8_t)TIFFGetR(raster[i]);
        r->image->pixels[3 * i + 1] = (uint8_t)TIFFGetG(raster[i]);
        r->image->pixels[3 * i + 2] = (uint8_t)TIFFGetB(raster[i]);
    }
    free(raster);
    lib.TIFFRGBAImageEnd(&img);
    return status;
}

static int read_pixels(struct tiff_reader *r, int64_t max_pixels, struct error *e)
{
    if (r->photometric == PHOTOMETRIC_YCBCR && r->samples > 1) {
        if (r->compression != COMPRESSION_JPEG || r->planar != PLANARCONFIG_CONTIG)
            return read_ycbcr(r, e);
        lib.TIFFSetField(r->tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    }
    return lib.TIFFIsTiled(r->tiff) ? read_tiles(r, max_pixels, e) : read_strips(r, e);
}

static void read_orientation(struct tiff_reader *r)
{
    uint16_t tag = 0;
    uint32_t size = 0;
    const void *xmp = NULL;
    if (lib.TIFFGetField(r->tiff, TIFFTAG_ORIENTATION, &tag))
        r->image->orientation = tag >= 1 && tag <= 8 ? tag : 1;
    else if (lib.TIFFGetField(r->tiff, TIFFTAG_XMLPACKET, &size, &xmp))
        r->image->orientation = image_choose_orientation(0, image_xmp_orientation(xmp, size));
}

static int decode(struct tiff_reader *r, int64_t max_pixels, struct error *e)
{
    struct image *image = r->image;
    if (r->tag_lost)
        return error_set(e, "truncated TIFF: a tag is missing");
    r->reason[0] = '\0'; /* complaints about tags do not explain what may fail now */
    read_tags(r);
    if (image_check_pixels(r->width, r->height, max_pixels, e) != 0 || check_kind(r, e) != 0 ||
        allocate(r, e) != 0 || read_pixels(r, max_pixels, e) != 0)
        return -1;
    if (image->alpha && r->premultiplied)
        tiff_unpremultiply(image);
    read_orientation(r);
    image->first_of_several = !lib.TIFFLastDirectory(r->tiff);
    uint32_t icc_size = 0;
    void *icc = NULL;
    if (lib.TIFFGetField(r->tiff, TIFFTAG_ICCPROFILE, &icc_size, &icc))
        return image_set_icc(image, icc, icc_size, e);
    return 0;
}

int image_tiff_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    if (lazy_library_load(&library, &lib, e) != 0)
        return -1;
    struct tiff_reader r = {.data = data, .size = size, .image = image, .clip_gray = o->clip_gray};
    image->format = IMAGE_TIFF;
    TIFFOpenOptions *options = lib.TIFFOpenOptionsAlloc();
    if (!options)
        return error_set(e, "cannot initialize libtiff");
    int64_t limit = o->max_pixels > 0 ? o->max_pixels : IMAGE_DEFAULT_MAX_PIXELS;
    lib.TIFFOpenOptionsSetMaxSingleMemAlloc(options, (tmsize_t)(limit * 16 + (1 << 20)));
    lib.TIFFOpenOptionsSetErrorHandlerExtR(options, keep_error, &r);
    lib.TIFFOpenOptionsSetWarningHandlerExtR(options, take_warning, &r);
    r.tiff = lib.TIFFClientOpenExt("image", "r", &r, read_bytes, write_nothing, seek, close_nothing,
                                   file_size, map_file, unmap_file, options);
    lib.TIFFOpenOptionsFree(options);
    if (!r.tiff)
        return explain(&r, e);
    int status = decode(&r, o->max_pixels, e);
    lib.TIFFClose(r.tiff);
    return status;
}
