#include <stdlib.h>
#include <string.h>

#include <libheif/heif.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"
#include "common/base/lazy_library.h"

#define FUNCTIONS(X)                                                                               \
    X(heif_image_handle_get_ispe_width)                                                            \
    X(heif_image_handle_get_ispe_height)                                                           \
    X(heif_image_handle_get_width)                                                                 \
    X(heif_image_handle_get_height)                                                                \
    X(heif_context_set_maximum_image_size_limit)                                                   \
    X(heif_context_set_max_decoding_threads)                                                       \
    X(heif_context_read_from_memory_without_copy)                                                  \
    X(heif_context_get_primary_image_ID)                                                           \
    X(heif_context_is_top_level_image_ID)                                                          \
    X(heif_context_get_list_of_top_level_image_IDs)                                                \
    X(heif_context_get_image_handle)                                                               \
    X(heif_context_get_number_of_top_level_images)                                                 \
    X(heif_decoding_options_alloc)                                                                 \
    X(heif_decode_image)                                                                           \
    X(heif_decoding_options_free)                                                                  \
    X(heif_image_get_primary_width)                                                                \
    X(heif_image_get_primary_height)                                                               \
    X(heif_image_get_plane_readonly)                                                               \
    X(heif_image_handle_get_raw_color_profile_size)                                                \
    X(heif_image_handle_get_raw_color_profile)                                                     \
    X(heif_image_handle_has_alpha_channel)                                                         \
    X(heif_context_alloc)                                                                          \
    X(heif_image_release)                                                                          \
    X(heif_image_handle_release)                                                                   \
    X(heif_context_free)

static struct {
    FUNCTIONS(LAZY_FUNCTION)
} lib;
static struct lazy_library library = LAZY_LIBRARY("HEIC", SONAME_HEIF, FUNCTIONS);

struct heif_image_reader {
    struct heif_context *context;
    struct heif_image_handle *handle; /* of the primary image */
    struct heif_image *decoded;
    struct image *image;
};

static int explain(struct heif_error why, const struct heif_image_reader *r, struct error *e)
{
    const char *text = why.message ? why.message : "unknown error";
    if (why.code == heif_error_Memory_allocation_error)
        return error_set(e, "out of memory for a HEIC, or it exceeds a limit");
    if (why.subcode == heif_suberror_End_of_data)
        return error_set(e, "truncated HEIC");
    if (why.subcode == heif_suberror_Unsupported_codec)
        return error_set(e, "unsupported HEIC: libheif lacks its decoder (a Debian package such as "
                            "libheif-plugin-libde265)");
    if (why.code == heif_error_Unsupported_filetype || why.code == heif_error_Unsupported_feature ||
        why.code == heif_error_Decoder_plugin_error)
        return error_set(e, "unsupported HEIC: %.100s", text);
    return error_set(e, "bad HEIC: %.100s", text);
}

/* Checks what is shown, and what is stored: before cropping, in blocks of 64x64. */
static int check_size(struct heif_image_reader *r, int64_t max_pixels, struct error *e)
{
    enum { BLOCK = 64 };
    int64_t width = lib.heif_image_handle_get_ispe_width(r->handle);
    int64_t height = lib.heif_image_handle_get_ispe_height(r->handle);
    if (image_check_pixels(lib.heif_image_handle_get_width(r->handle),
                           lib.heif_image_handle_get_height(r->handle), max_pixels, e) != 0)
        return -1;
    int64_t most = max_pixels > 0 ? max_pixels : IMAGE_DEFAULT_MAX_PIXELS;
    if (width > 0 && height > 0)
        most += BLOCK * (width + height + BLOCK);
    if (image_check_pixels(width, height, most, e) != 0)
        return -1;
    int64_t longest = width > height ? width : height;
    lib.heif_context_set_maximum_image_size_limit(r->context, (int)longest + BLOCK);
    return 0;
}

/* A primary image that is a thumbnail or the alpha of another gives way to the file's first. */
static struct heif_error find_primary(struct heif_image_reader *r)
{
    heif_item_id id;
    struct heif_error why = lib.heif_context_get_primary_image_ID(r->context, &id);
    if (why.code != heif_error_Ok)
        return why;
    if (!lib.heif_context_is_top_level_image_ID(r->context, id))
        lib.heif_context_get_list_of_top_level_image_IDs(r->context, &id, 1);
    return lib.heif_context_get_image_handle(r->context, id, &r->handle);
}

static int open_primary(struct heif_image_reader *r, const uint8_t *data, size_t size,
                        int64_t max_pixels, struct error *e)
{
    lib.heif_context_set_max_decoding_threads(r->context, 0); /* many images are decoded at once */
    struct heif_error why =
        lib.heif_context_read_from_memory_without_copy(r->context, data, size, NULL);
    if (why.code == heif_error_Ok)
        why = find_primary(r);
    if (why.code != heif_error_Ok)
        return explain(why, r, e);
    r->image->first_of_several = lib.heif_context_get_number_of_top_level_images(r->context) > 1;
    return check_size(r, max_pixels, e);
}

static int decode_rgb(struct heif_image_reader *r, bool alpha, struct error *e)
{
    struct heif_decoding_options *options = lib.heif_decoding_options_alloc();
    if (!options)
        return error_set(e, "out of memory for a HEIC");
    options->convert_hdr_to_8bit = 1;
    options->strict_decoding = 1;
    struct heif_error why = lib.heif_decode_image(
        r->handle, &r->decoded, heif_colorspace_RGB,
        alpha ? heif_chroma_interleaved_RGBA : heif_chroma_interleaved_RGB, options);
    lib.heif_decoding_options_free(options);
    return why.code == heif_error_Ok ? 0 : explain(why, r, e);
}

static int copy_pixels(struct heif_image_reader *r, bool alpha, int64_t max_pixels, struct error *e)
{
    int stride = 0, channels = alpha ? 4 : 3;
    int width = lib.heif_image_get_primary_width(r->decoded);
    int height = lib.heif_image_get_primary_height(r->decoded);
    const uint8_t *rows =
        lib.heif_image_get_plane_readonly(r->decoded, heif_channel_interleaved, &stride);
    if (!rows || image_check_pixels(width, height, max_pixels, e) != 0)
        return rows ? -1 : error_set(e, "bad HEIC: it has no pixels");
    if (image_allocate(r->image, width, height, channels, 8, e) != 0)
        return -1;
    size_t bytes = (size_t)width * (size_t)channels;
    for (size_t y = 0; y < (size_t)height; y++)
        memcpy(r->image->pixels + y * bytes, rows + y * (size_t)stride, bytes);
    return 0;
}

static int read_profile(struct heif_image_reader *r, struct error *e)
{
    enum { MOST = 64 << 20 };
    size_t size = lib.heif_image_handle_get_raw_color_profile_size(r->handle);
    if (size == 0 || size > MOST)
        return 0;
    uint8_t *icc = malloc(size);
    if (!icc)
        return error_set(e, "out of memory for a color profile of %zu bytes", size);
    int status = 0;
    if (lib.heif_image_handle_get_raw_color_profile(r->handle, icc).code == heif_error_Ok)
        status = image_set_icc(r->image, icc, size, e);
    free(icc);
    return status;
}

static int decode(struct heif_image_reader *r, const uint8_t *data, size_t size, int64_t max_pixels,
                  struct error *e)
{
    if (open_primary(r, data, size, max_pixels, e) != 0)
        return -1;
    bool alpha = lib.heif_image_handle_has_alpha_channel(r->handle);
    if (decode_rgb(r, alpha, e) != 0 || copy_pixels(r, alpha, max_pixels, e) != 0)
        return -1;
    return read_profile(r, e);
}

/* Pixels are upright: libheif applies rotation, mirroring and crop. */
int image_heif_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    if (lazy_library_load(&library, &lib, e) != 0)
        return -1;
    struct heif_image_reader r = {.image = image};
    image->format = IMAGE_HEIF;
    r.context = lib.heif_context_alloc();
    if (!r.context)
        return error_set(e, "cannot initialize libheif");
    int status = decode(&r, data, size, o->max_pixels, e);
    lib.heif_image_release(r.decoded);
    lib.heif_image_handle_release(r.handle);
    lib.heif_context_free(r.context);
    return status;
}
