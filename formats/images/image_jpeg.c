#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "formats/images/image_build.h"
#include "formats/images/image_decoders.h"

/* A progressive file can demand thousands of passes over all coefficients; real ones have about
 * ten. */
#define MAX_SCANS 500

struct jpeg_reader {
    struct jpeg_decompress_struct cinfo; /* first: libjpeg passes this to its callbacks */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    char reason[JMSG_LENGTH_MAX + 16];
    struct image *image;
    bool allow_truncated;
    bool done;  /* all pixels have been read */
    bool ended; /* but no end marker */
};

static struct jpeg_reader *reader_of(j_common_ptr cinfo)
{
    return (struct jpeg_reader *)(void *)cinfo;
}

__attribute__((noreturn)) static void fail(j_common_ptr cinfo)
{
    struct jpeg_reader *r = reader_of(cinfo);
    char text[JMSG_LENGTH_MAX];
    if (cinfo->err->msg_code == JERR_INPUT_EOF || cinfo->err->msg_code == JERR_INPUT_EMPTY ||
        cinfo->err->msg_code == JWRN_JPEG_EOF) {
        snprintf(r->reason, sizeof r->reason, "truncated JPEG");
    } else if (cinfo->err->msg_code == JWRN_HIT_MARKER) {
        snprintf(r->reason, sizeof r->reason, "truncated JPEG: a marker inside the pixel data");
    } else {
        cinfo->err->format_message(cinfo, text);
        snprintf(r->reason, sizeof r->reason, "bad JPEG: %s", text);
    }
    longjmp(r->failed, 1);
}

/* Whether libjpeg's warning means that pixels are missing, which it fills with gray: the file ends,
 * or its end marker comes too soon. */
static bool is_end(const struct jpeg_reader *r, int code)
{
    return code == JWRN_JPEG_EOF || (code == JWRN_HIT_MARKER && r->cinfo.unread_marker == JPEG_EOI);
}

/* Missing pixels are a failure unless they are allowed. Other warnings (garbage between markers, a
 * bad code or another marker from which decoding recovers) are kept for the caller. */
static void emit(j_common_ptr cinfo, int level)
{
    if (level >= 0)
        return;
    struct jpeg_reader *r = reader_of(cinfo);
    char text[JMSG_LENGTH_MAX];
    cinfo->err->num_warnings++;
    if (r->done && cinfo->err->msg_code == JWRN_JPEG_EOF) {
        r->ended = true;
        longjmp(r->failed, 1);
    }
    if (is_end(r, cinfo->err->msg_code)) {
        if (!r->allow_truncated)
            fail(cinfo);
        r->image->truncated = true;
        return;
    }
    cinfo->err->format_message(cinfo, text);
    image_set_warning(r->image, text);
}

static void limit_scans(j_common_ptr cinfo)
{
    struct jpeg_reader *r = reader_of(cinfo);
    if (!cinfo->is_decompressor || r->cinfo.input_scan_number <= MAX_SCANS)
        return;
    snprintf(r->reason, sizeof r->reason, "bad JPEG: more than %d scans", MAX_SCANS);
    longjmp(r->failed, 1);
}

static int read_markers(struct jpeg_reader *r, struct error *e)
{
    static const char xmp_name[] = "http://ns.adobe.com/xap/1.0/"; /* and a zero byte */
    int exif = 0, xmp = 0;
    for (jpeg_saved_marker_ptr m = r->cinfo.marker_list; m; m = m->next) {
        if (m->marker != JPEG_APP0 + 1)
            continue;
        if (!exif && m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
            exif = image_exif_orientation(m->data, m->data_length);
        if (!xmp && m->data_length > sizeof xmp_name &&
            memcmp(m->data, xmp_name, sizeof xmp_name) == 0)
            xmp = image_xmp_orientation(m->data, m->data_length);
    }
    r->image->orientation = image_choose_orientation(exif, xmp);
    JOCTET *icc = NULL;
    unsigned int icc_size = 0;
    int status = 0;
    if (jpeg_read_icc_profile(&r->cinfo, &icc, &icc_size))
        status = image_set_icc(r->image, icc, icc_size, e);
    free(icc);
    return status;
}

static int channels_of(const struct jpeg_decompress_struct *cinfo)
{
    switch (cinfo->out_color_space) {
    case JCS_GRAYSCALE:
        return 1;
    case JCS_RGB:
        return 3;
    case JCS_CMYK:
        return 4;
    default:
        return 0;
    }
}

static int decode(struct jpeg_reader *r, const uint8_t *data, size_t size, int64_t max_pixels,
                  struct error *e)
{
    struct jpeg_decompress_struct *cinfo = &r->cinfo;
    struct image *image = r->image;
    jpeg_create_decompress(cinfo);
    r->progress.progress_monitor = limit_scans;
    cinfo->progress = &r->progress;
    jpeg_mem_src(cinfo, data, size);
    jpeg_save_markers(cinfo, JPEG_APP0 + 1, 0xffff);
    jpeg_save_markers(cinfo, JPEG_APP0 + 2, 0xffff);
    jpeg_read_header(cinfo, TRUE);
    if (image_check_pixels(cinfo->image_width, cinfo->image_height, max_pixels, e) != 0)
        return -1;
    int channels = channels_of(cinfo);
    if (channels == 0)
        return error_set(e, "unsupported JPEG: %d color components", cinfo->num_components);
    if (image_allocate(image, (int)cinfo->image_width, (int)cinfo->image_height, channels, 8, e) <
            0 ||
        read_markers(r, e) != 0)
        return -1;
    if (channels == 4) {
        image->color = IMAGE_CMYK;
        image->alpha = false;
    }
    jpeg_start_decompress(cinfo);
    size_t stride = (size_t)image->width * (size_t)channels;
    while (cinfo->output_scanline < cinfo->output_height) {
        JSAMPROW rows[8];
        JDIMENSION n = cinfo->output_height - cinfo->output_scanline;
        if (n > 8)
            n = 8;
        for (size_t i = 0; i < n; i++)
            rows[i] = image->pixels + (cinfo->output_scanline + i) * stride;
        jpeg_read_scanlines(cinfo, rows, n);
    }
    /* CMYK JPEGs store inverted inks, as Adobe introduced it; viewers agree on that. */
    if (channels == 4)
        for (size_t i = 0, n = image_bytes(image); i < n; i++)
            image->pixels[i] = (uint8_t)(255 - image->pixels[i]);
    r->done = true;
    jpeg_finish_decompress(cinfo); /* reads up to the end marker */
    return 0;
}

/* A separate function, because longjmp makes the locals of setjmp's caller indeterminate. */
static int guarded(struct jpeg_reader *r, const uint8_t *data, size_t size, int64_t max_pixels,
                   struct error *e)
{
    if (setjmp(r->failed) == 0)
        return decode(r, data, size, max_pixels, e);
    if (!r->ended)
        return error_set(e, "%s", r->reason);
    image_set_warning(r->image, "the JPEG ends without its end marker");
    return 0;
}

int image_jpeg_decode(struct image *image, const uint8_t *data, size_t size,
                      const struct image_options *o, struct error *e)
{
    struct jpeg_reader r = {.image = image, .allow_truncated = o->allow_truncated};
    image->format = IMAGE_JPEG;
    r.cinfo.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = fail;
    r.errors.emit_message = emit;
    int status = guarded(&r, data, size, o->max_pixels, e);
    jpeg_destroy_decompress(&r.cinfo);
    return status;
}
